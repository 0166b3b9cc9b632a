"""Finds tasks whose chunks wait unclaimed although no live worker can take them, by the list of workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from anabranch.core.names import Names
from anabranch.core.waiting import NOTICE_SECONDS
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import TaskUnserved
from anabranch.core.wire.worker_card import WorkerCard
from anabranch.ports import Clock, Outgoing
from anabranch_taskgroup.owner.worker_directory import WorkerDirectory, lack_of
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Task

REPEAT_SECONDS = 10.0
"""Seconds after which a record about a task is published again, if the task's state does not show it yet."""
ROOM_SECONDS = 60.0
"""Seconds that a wait for a worker with what a task requires lasts before it is reported."""


class UnservedTasks:
    """Looks for such tasks, and makes the records about them.

    Args:
        clock: that of the owners, whose time the offers have.
    """

    def __init__(self, directory: WorkerDirectory, names: Names, clock: Clock) -> None:
        self._directory = directory
        self._names = names
        self._clock = clock
        self._published: dict[tuple[str, str, str, tuple[int, ...]], float] = {}

    async def records(self, open_tasks: Iterable[tuple[Run, Task]]) -> Sequence[Outgoing]:
        """The records about tasks that no live worker can serve. Reads the list of workers only if a task has
        waited for so long that it may be one of them.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        now = self._clock.now()
        waiting = [(run, task, now - waits_since(run, task)) for run, task in open_tasks]
        waiting = [each for each in waiting if each[2] >= NOTICE_SECONDS]
        if not waiting:
            self._published.clear()
            return ()
        workers = await self._directory.workers()
        if workers is None:
            return ()
        found = [
            (run, task, lacks)
            for run, task, waited in waiting
            if (lacks := _lacks(workers, run, task, waited)) is not None
        ]
        return [self._record(*each) for each in found if self._is_due(*each[:2], now)]

    def _is_due(self, run: Run, task: Task, now: float) -> bool:
        key = (run.run_id, task.group, task.name, task.iteration)
        if now - self._published.get(key, float("-inf")) < REPEAT_SECONDS:
            return False
        self._published[key] = now
        return True

    def _record(self, run: Run, task: Task, lacks: str) -> Outgoing:
        message = TaskUnserved(
            run_id=run.run_id,
            group=task.group,
            task=task.name,
            iteration=task.iteration,
            admission=run.admission,
            lacks=lacks,
        )
        return Outgoing(self._names.groups, run.session_id, encode(message))


def waits_since(run: Run, task: Task) -> float:
    """Since when all chunks of a task wait for a worker, in seconds since the epoch; infinite if one of them has
    begun, or if the reason is known."""
    if run.paused or task.missing_agent_reported or task.room_lack is not None:
        return float("inf")
    if len(task.waiting) < len(task.chunks):
        return float("inf")
    offered = [chunk.offered_at for chunk in task.chunks.values()]
    return min(
        offered if task.room_missing_since is None else [*offered, task.room_missing_since], default=float("inf")
    )


def _lacks(workers: Sequence[WorkerCard], run: Run, task: Task, waited: float) -> str | None:
    """What all workers lack for a task that has waited for so many seconds; None if nothing is to be said."""
    found = lack_of(workers, task.order, task.order.pool or run.pool)
    return None if found and waited < ROOM_SECONDS else found


def tasks_of(found: Iterable[tuple[Run, Task]]) -> Iterator[tuple[Run, Task]]:
    """Each task once."""
    known: set[int] = set()
    for run, task in found:
        if id(task) not in known:
            known.add(id(task))
            yield run, task
