"""The live workers, as an owner needs them: read from the store when asked, and kept for a second."""

from __future__ import annotations

from collections.abc import Sequence

from anabranch.core.names import Names
from anabranch.core.request.resources import Requires
from anabranch.core.requirements import fits, fits_now, why_nobody_fits
from anabranch.core.wire.task_order import TaskOrder
from anabranch.core.wire.worker_card import WorkerCard, has_agent
from anabranch.ports import Clock, StateStore
from anabranch.runtime.reading.workers import live_workers

KEPT_SECONDS = 1.0


class WorkerDirectory:
    """Reads the list of workers.

    Args:
        worker: the id of the worker in this process, which is live.
    """

    def __init__(self, store: StateStore, names: Names, clock: Clock, worker: str) -> None:
        self._store = store
        self._names = names
        self._clock = clock
        self._worker = worker
        self._found: Sequence[WorkerCard] | None = None
        self._read_at = float("-inf")

    async def workers(self) -> Sequence[WorkerCard] | None:
        """The live workers; None if the list is not complete, because the store lost it.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        now = self._clock.monotonic()
        if now - self._read_at >= KEPT_SECONDS:
            found = await live_workers(self._store, self._names)
            # A list without this worker has not been written again since the store lost it.
            self._found = found if any(each.id == self._worker for each in found) else None
            self._read_at = now
        return self._found


def able_workers(workers: Sequence[WorkerCard], order: TaskOrder, pool: str) -> list[WorkerCard]:
    """The workers of a pool that take members of a task as far as agents go: they have its agent, and do not
    stop."""
    return [
        worker
        for worker in workers
        if worker.pool == pool and not worker.draining and has_agent(worker, order.agent)
    ]


def lack_of(workers: Sequence[WorkerCard], order: TaskOrder, pool: str) -> str | None:
    """What the workers of a pool with the agent of a task lack of what it requires; empty if none has the agent;
    None if one of them has all of it, or if the pool has no workers at all."""
    if not any(worker.pool == pool for worker in workers):
        return None
    able = able_workers(workers, order, pool)
    if not able:
        return ""
    if order.requires is None or any(fits(order.requires, worker.offered) for worker in able):
        return None
    return why_nobody_fits(order.requires, [(worker.id, worker.offered) for worker in able])


def has_room(workers: Sequence[WorkerCard], order: TaskOrder, pool: str, requires: Requires) -> bool:
    """True if a worker of the pool has the agent of a task, and had room for a member at its last heartbeat."""
    able = able_workers(workers, order, pool)
    return any(fits_now(requires, worker.offered, worker.used) for worker in able)
