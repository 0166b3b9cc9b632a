"""Gives back all that a task holds of limits that runs share, as it ends. Pure."""

from __future__ import annotations

from anabranch.core.wire.messages import GrantHolder, ReturnGrant
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn


def holder_of(run: Run, task: Task) -> GrantHolder:
    """A task as the owners of limits know it."""
    return GrantHolder(
        run_id=run.run_id,
        session_id=run.session_id,
        admission=run.admission,
        group=task.group,
        task=task.name,
        iteration=task.iteration,
    )


def return_all(turn: Turn, run: Run, task: Task) -> None:
    """Give back all that a task holds, and take back its wishes, with one record for each limit."""
    assert task.limits is not None
    wished = [each.address for each in task.limits.wishes.values()]
    held = [each.address for each in task.limits.holdings.values()]
    for address in dict.fromkeys((*wished, *held)):
        turn.publish(turn.config.names.runs, address, ReturnGrant(run_id=address, holder=holder_of(run, task)))
    task.limits.wishes.clear()
    task.limits.holdings.clear()
