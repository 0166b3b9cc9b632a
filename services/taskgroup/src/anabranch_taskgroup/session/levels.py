"""The level, the pool and the fairness key of the offers of a task. Pure."""

from __future__ import annotations

from anabranch.core.lanes import DEFAULT_POOL, DEFAULT_PRIORITY, Priority, raised
from anabranch.core.wire.messages import Inherited
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Task


def base_priority(run: Run, task: Task) -> Priority:
    """The level of a task, whatever the deadline of its run is."""
    return task.order.priority or run.priority


def pool_of(run: Run, task: Task) -> str:
    """The pool of workers that run the members of a task."""
    return task.order.pool or run.pool


def fairness_key_of(run: Run, task: Task) -> str:
    """The key by which the offers of a task share their level with others."""
    return task.order.fairness_key or run.fairness_key or run.project


def priority_at(run: Run, task: Task, at: float) -> Priority:
    """The level at which a chunk of a task is offered at `at`, in seconds since the epoch."""
    priority = task.order.priority or run.priority
    return priority if run.due_at is None else raised(priority, run.due_at - at)


def inherited_by_children(run: Run, task: Task) -> Inherited | None:
    """What the sub-runs of a step inherit; None if that is nothing."""
    priority, pool = base_priority(run, task), pool_of(run, task)
    inherited = Inherited(
        priority=None if priority == DEFAULT_PRIORITY else priority,
        pool=None if pool == DEFAULT_POOL else pool,
        fairness_key=task.order.fairness_key or run.fairness_key,
        due_at=run.due_at,
    )
    return None if inherited == Inherited() else inherited
