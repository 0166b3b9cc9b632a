"""Gives back all that a task holds of limits that runs share, as it ends. Pure."""

from __future__ import annotations

from anabranch.core.wire.messages import GrantHolder, ReturnGrant
from anabranch_taskgroup.session.limit_state import LimitHolding
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


def outcome_of(run: Run, task: Task, number: int, holding: LimitHolding, *, left: int) -> ReturnGrant:
    """Gives back a grant but for `left` members, with the attempts under it that have passed and failed so far."""
    return ReturnGrant(
        run_id=holding.address,
        holder=holder_of(run, task),
        number=number,
        left=left,
        passed=holding.passed,
        failed=holding.failed,
    )


def return_all(turn: Turn, run: Run, task: Task) -> None:
    """Give back all that a task holds, and take back its wishes, with one record for each limit. A breaker has one
    for each chunk with outcomes: those of the last chunk count as well, and a task may have no other."""
    assert task.limits is not None
    wished = [each.address for each in task.limits.wishes.values()]
    held = []
    for number, each in task.limits.holdings.items():
        if each.passed or each.failed:
            turn.publish(turn.config.names.runs, each.address, outcome_of(run, task, number, each, left=0))
        else:
            held.append(each.address)
    for address in dict.fromkeys((*wished, *held)):
        turn.publish(turn.config.names.runs, address, ReturnGrant(run_id=address, holder=holder_of(run, task)))
    task.limits.wishes.clear()
    task.limits.holdings.clear()
