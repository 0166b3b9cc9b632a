"""Finds tasks whose chunks wait unclaimed although no live worker can take them, by the list of workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from anabranch.core.names import Names
from anabranch.core.waiting import NOTICE_SECONDS
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import TaskUnserved
from anabranch.core.wire.worker_card import WorkerCard, has_agent
from anabranch.ports import Clock, Outgoing, StateStore
from anabranch.runtime.reading.workers import live_workers
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Task

REPEAT_SECONDS = 10.0
"""Seconds after which a record about a task is published again, if the task's state does not show it yet."""


class UnservedTasks:
    """Looks for such tasks, and makes the records about them.

    Args:
        clock: that of the owners, whose time the offers have.
        worker: the id of the worker in this process, which is live.
    """

    def __init__(self, store: StateStore, names: Names, clock: Clock, worker: str) -> None:
        self._store = store
        self._names = names
        self._clock = clock
        self._worker = worker
        self._published: dict[tuple[str, str, str, tuple[int, ...]], float] = {}

    async def records(self, open_tasks: Iterable[tuple[Run, Task]]) -> Sequence[Outgoing]:
        """The records about tasks that no live worker can serve. Reads the list of workers only if a task has
        waited for so long that it may be one of them.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        now = self._clock.now()
        waiting = [each for each in open_tasks if waits_since(*each) <= now - NOTICE_SECONDS]
        if not waiting:
            self._published.clear()
            return ()
        workers = await live_workers(self._store, self._names)
        # A list without this worker has not been written again since the store lost it.
        if not any(worker.id == self._worker for worker in workers):
            return ()
        found = [each for each in waiting if not can_serve(workers, each[1])]
        return [self._record(*each) for each in found if self._is_due(*each, now)]

    def _is_due(self, run: Run, task: Task, now: float) -> bool:
        key = (run.run_id, task.group, task.name, task.iteration)
        if now - self._published.get(key, float("-inf")) < REPEAT_SECONDS:
            return False
        self._published[key] = now
        return True

    def _record(self, run: Run, task: Task) -> Outgoing:
        message = TaskUnserved(
            run_id=run.run_id,
            group=task.group,
            task=task.name,
            iteration=task.iteration,
            admission=run.admission,
        )
        return Outgoing(self._names.groups, run.session_id, encode(message))


def waits_since(run: Run, task: Task) -> float:
    """Since when all chunks of a task that are offered wait for a worker, in seconds since the epoch; infinite if
    one of them has begun, or if that there is no worker is known."""
    if run.paused or task.missing_agent_reported or len(task.waiting) < len(task.chunks):
        return float("inf")
    return min((chunk.offered_at for chunk in task.chunks.values()), default=float("inf"))


def can_serve(workers: Sequence[WorkerCard], task: Task) -> bool:
    """True if a live worker that does not stop has the agent of a task."""
    return any(_can_take(worker, task) for worker in workers)


def _can_take(worker: WorkerCard, task: Task) -> bool:
    return not worker.draining and has_agent(worker, task.order.agent)


def tasks_of(found: Iterable[tuple[Run, Task]]) -> Iterator[tuple[Run, Task]]:
    """Each task once."""
    known: set[int] = set()
    for run, task in found:
        if id(task) not in known:
            known.add(id(task))
            yield run, task
