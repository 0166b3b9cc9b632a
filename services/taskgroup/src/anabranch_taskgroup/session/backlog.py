"""What is left to do for the sessions of one process, by pool and level. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anabranch.core.wire.worker_card import LaneBacklog
from anabranch_taskgroup.session.levels import pool_of, priority_at
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Task


def backlog_of(states: Iterable[PartitionState], at: float) -> Sequence[LaneBacklog]:
    """The members that have not ended of tasks whose members workers run, by lane.

    Args:
        at: seconds since the epoch, for levels that a deadline raises.
    """
    waiting: dict[tuple[str, str], int] = {}
    unmeasured: dict[tuple[str, str], int] = {}
    seconds: dict[tuple[str, str], float] = {}
    for state in states:
        for run in state.runs.values():
            for group in run.groups.values():
                for task in group.tasks.values() if group.unfinished else ():
                    if not has_members_left(task):
                        continue
                    lane = pool_of(run, task), priority_at(run, task, at)
                    left = task.total - task.ended
                    begun = sum(len(chunk.begun) for chunk in task.chunks.values())
                    waiting[lane] = waiting.get(lane, 0) + max(0, left - begun)
                    if task.member_seconds is None:
                        unmeasured[lane] = unmeasured.get(lane, 0) + left
                    else:
                        seconds[lane] = seconds.get(lane, 0.0) + left * task.member_seconds
    return [
        LaneBacklog(
            pool=pool,
            level=level,
            members=members,
            seconds=round(seconds.get((pool, level), 0.0), 3),
            unmeasured=unmeasured.get((pool, level), 0),
        )
        for (pool, level), members in sorted(waiting.items())
    ]


def has_members_left(task: Task) -> bool:
    """True if workers have members of a task to run."""
    runs_here = task.children is None and task.waits is None and task.loop is None
    return task.state is TaskState.RUNNING and runs_here and task.ended < task.total
