"""Takes the answers of the owners of limits to a task's wishes. Pure."""

from __future__ import annotations

from anabranch.core.wire.messages import CheckGrant, GrantAnswer
from anabranch_taskgroup.session.endings import end
from anabranch_taskgroup.session.halts import halt_of_task
from anabranch_taskgroup.session.limits import grant_checked, grant_received
from anabranch_taskgroup.session.states import TaskEvent
from anabranch_taskgroup.session.steps.joins import advance
from anabranch_taskgroup.session.steps.kind import Step
from anabranch_taskgroup.session.steps.registry import kind_of
from anabranch_taskgroup.session.turn import Turn


def receive_grant(turn: Turn, message: GrantAnswer, segments: tuple[bytes, ...]) -> None:
    """Apply the answer to a wish: offer what it allows, or end the task whose place another one took."""
    found = grant_received(turn, message)
    if found is None:
        return
    run, group, task = found
    if message.verdict not in ("revoked", "replaced"):
        advance(turn, run, group, task)
    elif task.is_open:
        if task.chunks:
            turn.effects.append(halt_of_task(run, task))
        kind_of(task).cancel(turn, Step(run, group, task))
        end(turn, run, task, TaskEvent.CANCEL, because=message.because)


def check_grant(turn: Turn, message: CheckGrant, segments: tuple[bytes, ...]) -> None:
    """Answer whether wishes and grants are still needed."""
    grant_checked(turn, message)
