"""Emits an event while the chunks of a task wait for a worker of a pool that has none. Pure.

The shell looks for the workers of pools whose offers wait, and reports a pool without any.
"""

from __future__ import annotations

from anabranch.core.wire.messages import PoolMissing
from anabranch_taskgroup.session.levels import pool_of
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.steps.kind import Step
from anabranch_taskgroup.session.turn import Turn


def report_missing_pool(turn: Turn, step: Step, message: PoolMissing) -> None:
    """Emit the event, once until a member starts."""
    run, _, task = step
    waits = task.state is TaskState.RUNNING and bool(task.waiting) and message.iteration == task.iteration
    if not waits or task.lacks_workers_since is not None or message.pool != pool_of(run, task):
        turn.partition.drop("pool missing, and no chunk waits for it")
        return
    task.lacks_workers_since = message.since
    turn.event(run, "task.waiting", task=task, reason="no_workers", pool=message.pool, since=message.since)
