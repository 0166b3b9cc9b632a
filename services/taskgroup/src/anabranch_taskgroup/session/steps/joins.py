"""Joins a task once each of its members has ended, in the turn in which the last one ended, and once. Pure."""

from __future__ import annotations

from anabranch_taskgroup.session.budgets import settle_costs
from anabranch_taskgroup.session.chunks import schedule, schedule_group
from anabranch_taskgroup.session.early_decisions import NEED_NOT_REACHED, is_member_race
from anabranch_taskgroup.session.endings import complete, end, fail
from anabranch_taskgroup.session.halts import halt_of_task
from anabranch_taskgroup.session.limit_keys import key_problem, uses_of
from anabranch_taskgroup.session.limit_state import TaskLimits
from anabranch_taskgroup.session.merge import is_separate, join_problem, join_task
from anabranch_taskgroup.session.retry_import import schedule_gaps
from anabranch_taskgroup.session.state import Group, Run, Value
from anabranch_taskgroup.session.states import TaskEvent, TaskState, next_state
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.value_references import as_published


def run_members(turn: Turn, run: Run, task: Task) -> None:
    """The number of members is known: offer those that a retry has not taken over."""
    task.state = next_state(task.state, TaskEvent.EXPANDED)
    order = task.order
    has_own = order.concurrency is not None or order.rate_limit is not None or order.agent in run.breakers
    if has_own or (run.configured_limits is not None and uses_of(run, task)):
        task.limits = TaskLimits()
        if (problem := key_problem(run, task)) is not None:
            fail(turn, run, task, TaskEvent.EXPANSION_REFUSED, "ExpansionError", problem)
            return
    if task.imported_total is not None:
        schedule_gaps(turn, run, task)
    # The join is checked after it: a retry may have imported every member, so that none is offered.
    group = run.groups[task.group]
    schedule(turn, run, group, task)
    if task.ended or group.need is not None:
        close_if_ended(turn, run, task)


def advance(turn: Turn, run: Run, group: Group, task: Task) -> None:
    """Members ended, or their chunk came back: join the task, or offer as many chunks as the limits allow."""
    if run.has_budgets:
        settle_costs(turn, run, group, task)
    close_if_ended(turn, run, task)
    if group.max_concurrency is not None:
        schedule_group(turn, run, group)
    elif task.state is TaskState.RUNNING:
        schedule(turn, run, group, task)


def close_if_ended(turn: Turn, run: Run, task: Task) -> None:
    """Join a task if each of its members has ended, or so many have completed as its group needs."""
    if run.groups[task.group].need is not None and _end_race(turn, run, task):
        return
    if task.state is not TaskState.RUNNING or task.ended < task.total:
        return
    if task.failed and len(task.failed) > tolerated(task):
        _fail_join(turn, run, task)
    elif is_separate(task) and (problem := join_problem(run, task)) is not None:
        fail(turn, run, task, TaskEvent.EXPANSION_REFUSED, "ExpansionError", problem)
    else:
        complete(turn, run, task, TaskEvent.JOINED, join_task(turn, run, task))


def _end_race(turn: Turn, run: Run, task: Task) -> bool:
    """End a task whose group needs a number of its members, once that is reached or out of reach. Returns False
    where the task goes on, or joins as any other."""
    group = run.groups[task.group]
    if task.state is not TaskState.RUNNING or not is_member_race(group, task.order.in_loop):
        return False
    assert group.need is not None
    completed, lost = len(task.completed), len(task.failed)
    is_won = completed >= group.need
    if not is_won and task.total - lost >= group.need:
        return False
    if task.chunks:
        turn.effects.append(halt_of_task(run, task))
    if is_won:
        complete(turn, run, task, TaskEvent.JOINED, join_task(turn, run, task))
        return True
    report_partial(turn, run, task)
    message = (
        f"group {group.name!r} needs {group.need:,} completed members of {task.total:,}: {completed:,} completed, "
        f"{lost:,} failed"
    )
    fail(turn, run, task, TaskEvent.BROKEN, NEED_NOT_REACHED, message)
    return True


def tolerated(task: Task) -> int:
    """How many members may fail without failing the task; a percentage is of all members, rounded down.

    Zero for an ordinary task: without its only member it has no value."""
    if task.order.expansion is None:
        return 0
    allowed = task.order.tolerated_failures
    if isinstance(allowed, int):
        return allowed
    # The addend makes up for the float division: 29% of 100 must be 29, and not 28.999...
    return int(float(str(allowed).rstrip("%")) * task.total / 100 + 1e-9)


def _fail_join(turn: Turn, run: Run, task: Task) -> None:
    """Too many members failed. The values of the others are in the run's report, and satisfy no dependency."""
    report_partial(turn, run, task)
    count = len(task.failed)
    if task.order.expansion is not None:
        message = f"{count} of {task.total} members failed, {tolerated(task)} are tolerated"
        turn.event(run, "task.joined", task=task, count=task.total, failed=count, status="failed", message=message)
    end(turn, run, task, TaskEvent.BROKEN, silent=True)


def report_partial(turn: Turn, run: Run, task: Task) -> None:
    """Add the values of an expansion's completed members to the run's report."""
    # An ordinary task is left out: without its only member it has no value.
    if task.order.expansion is not None and len(task.completed) and task.order.in_loop is None:
        for each in join_task(turn, run, task):
            if each.key not in task.order.shares:
                published = as_published(turn, run, each.key, Value(each.value, each.is_reference))
                run.groups[task.group].results[each.key] = published.document
