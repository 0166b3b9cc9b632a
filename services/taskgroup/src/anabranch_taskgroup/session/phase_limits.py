"""How long the phases of a run's end may take. Pure.

Nothing else ends them: they run outside a stop of the run and after its deadline.
"""

from __future__ import annotations

from anabranch.core.retry import delay_before, max_attempts_of
from anabranch.core.wire.messages import TaskOrder
from anabranch_taskgroup.session.phase_table import FINALLY
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.timers import Timer, TimerKind
from anabranch_taskgroup.session.turn import Turn

TASK_SECONDS = 300.0
"""Seconds of a task of `finally`, and of an attempt of a compensation, without a timeout of its own."""
GRACE_SECONDS = 10.0
"""A worker ends an attempt at the timeout of its task. The owner ends the task so much later, if none has."""
SLACK_SECONDS = 60.0
PARALLEL_MEMBERS = 16
"""So many members of a compensation are assumed to run at once, for the limit of its phase."""
MAX_COUNTED_ATTEMPTS = 100


def phase_seconds(run: Run, name: str) -> float:
    """The longest time of a phase: of its tasks, one after another."""
    group = run.groups.get(name)
    tasks = list(group.tasks.values()) if group is not None else []
    seconds = _seconds_of_finally if name == FINALLY else _seconds_of_compensation
    return SLACK_SECONDS + sum([seconds(task) for task in tasks])


def _seconds_of_finally(task: Task) -> float:
    return (task.order.timeout or TASK_SECONDS) + GRACE_SECONDS


def _seconds_of_compensation(task: Task) -> float:
    rounds = -(-max(task.total, 1) // PARALLEL_MEMBERS)
    return rounds * _member_seconds(task.order)


def _member_seconds(order: TaskOrder) -> float:
    """The longest time of one member, if each attempt takes its timeout and each delay is whole."""
    attempts, delays = 3, 0.0
    for policy in (order.retry,) if order.retry is not None else order.retriers:
        most = min(max_attempts_of(policy) or 1, MAX_COUNTED_ATTEMPTS)
        attempts = max(attempts, most)
        delays += sum([delay_before(policy, attempt, 0.0) or 0.0 for attempt in range(2, most + 1)])
    return attempts * ((order.timeout or TASK_SECONDS) + GRACE_SECONDS) + delays


def limit_task(turn: Turn, run: Run, group: Group, task: Task) -> None:
    """Schedule the end of a task of `finally` that has begun."""
    if group.name == FINALLY and not task.is_over:
        due = turn.at + _seconds_of_finally(task)
        run.timers.schedule(Timer(TimerKind.TASK_TIMEOUT, group.name, task.name), due)
