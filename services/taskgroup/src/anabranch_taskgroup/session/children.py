"""The sub-runs of a step: which of them are open, and the commands to them. Pure.

A sub-run has the member's number, attempt and iteration in its request id, so it exists once, however often it is
requested. Its owner answers that it was admitted, and how it ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anabranch.core.names import child_request_id, run_id_for
from anabranch.core.wire.messages import ControlChild, ParentLink
from anabranch_taskgroup.session.budgets import allowance, reserve_for_child, starve
from anabranch_taskgroup.session.turn import StartChild, Turn

if TYPE_CHECKING:
    from anabranch.core.wire.child_messages import ChildAction
    from anabranch_taskgroup.session.state import Group, Run
    from anabranch_taskgroup.session.task_state import Task

MAX_OPEN = 10_000
"""Open sub-runs of one step; further members start as these end."""


@dataclass(frozen=True, slots=True)
class ChildId:
    """The ids of a sub-run."""

    request_id: str
    run_id: str


def child_id(run_id: str, task: Task, index: int, attempt: int) -> ChildId:
    """The ids of the sub-run of a member."""
    request_id = child_request_id(run_id, task.group, task.name, index, task.iteration, attempt)
    return ChildId(request_id, run_id_for(request_id))


def link_of(run: Run, task: Task, index: int, attempt: int) -> ParentLink:
    """What a sub-run knows of its parent."""
    return ParentLink(
        run_id=run.run_id,
        session_id=run.session_id,
        group=task.group,
        task=task.name,
        index=index,
        iteration=task.iteration,
        attempt=attempt,
        admission=run.admission,
        depth=run.depth + 1,
    )


def start_children(turn: Turn, run: Run, group: Group, task: Task, free: int) -> None:
    """Start as many sub-runs as the limits allow; `free` is the number of members that may start."""
    children = task.children
    assert children is not None
    if run.paused or run.stopped or task.stopping is not None:
        return
    for _ in range(min(free, MAX_OPEN - len(children))):
        if not (task.requeued or task.cursor < task.total):
            return
        allowed = None
        if run.has_budgets:
            allowed = allowance(run, group, task, 1)
            if allowed.members <= 0:
                starve(turn, run, group, task, allowed.refusal)
                return
        [(index, attempts)] = _startable(task, 1)
        children[index] = attempts + 1
        if allowed is not None:
            reserve_for_child(turn, run, group, task, index, allowed)
        turn.effects.append(StartChild(run.run_id, task.group, task.name, index))


def _startable(task: Task, count: int) -> Iterator[tuple[int, int]]:
    """(member, attempts made) of the next members to start, `count` at most, which are no longer to be started."""
    for _ in range(count):
        if task.requeued:
            chunk = task.requeued[0]
            index = next(chunk.pending.indexes())
            chunk.remove_member(index)
            if not chunk.pending:
                task.requeued.pop(0)
            yield index, chunk.attempts.get(index, 0)
        elif task.cursor < task.total:
            task.cursor += 1
            yield task.cursor - 1, 0
        else:
            return


def command(turn: Turn, run: Run, task: Task, action: ChildAction) -> None:
    """Send a command to each open sub-run of a step."""
    position = turn.position
    for index, attempt in (task.children or {}).items():
        message = command_of(run, task, index, attempt, action, position)
        turn.publish(turn.config.names.runs, message.run_id, message)


def command_of(
    run: Run, task: Task, index: int, attempt: int, action: ChildAction, position: int = 0
) -> ControlChild:
    """The command to one sub-run."""
    child = child_id(run.run_id, task, index, attempt)
    link = link_of(run, task, index, attempt)
    return ControlChild(run_id=child.run_id, action=action, parent=link, position=position)
