"""Takes offers off the `tasks` topic as fast as there is room for them, and no faster.

An offset is committed once the offer was claimed, refused or given back: an offer is not ownership, and how
long its members run is no matter of the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from anabranch.core.codec import TASKS, Undecodable
from anabranch.core.errors import ServerUnavailable
from anabranch.core.names import Names
from anabranch.ports import Committed, EventLog, Incoming, Membership
from anabranch.runtime.deadletter import dead_letter
from anabranch_taskgroup.executor import Executor, Offered

log = logging.getLogger(__name__)

QUEUE = 256
BATCH = 64
COMMIT_SECONDS = 0.5


class Intake:
    """A member of the workers' consumer group. A `PartitionListener`."""

    def __init__(self, executor: Executor, eventlog: EventLog, names: Names) -> None:
        self._executor = executor
        self._log = eventlog
        self._names = names
        self._queue: deque[Incoming] = deque()
        self._wake = asyncio.Event()
        self._taken: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._paused: set[int] = set()
        self._owned: set[int] = set()
        self._membership: Membership | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.failure: BaseException | None = None

    async def start(self) -> None:
        """Join the workers' group."""
        self._membership = await self._log.join(self._names.taskgroup_tasks, [self._names.tasks], self)
        for loop in (self._take_loop(), self._commit_loop()):
            task = asyncio.create_task(loop)
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    async def stop(self) -> None:
        """Leave the group. Offers that were fetched and not taken go to other workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._queue.clear()
        if self._membership is not None:
            membership, self._membership = self._membership, None
            await membership.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            log.critical("the intake of offers stopped", exc_info=self.failure)

    # --- PartitionListener -------------------------------------------------------------------------

    async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
        self._owned.add(partition)
        return None

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        self._drop(partition)
        taken = self._taken.pop(partition, None)
        return Committed(taken) if taken is not None else None

    async def lost(self, topic: str, partition: int) -> None:
        self._drop(partition)
        self._taken.pop(partition, None)

    def _drop(self, partition: int) -> None:
        self._owned.discard(partition)
        self._paused.discard(partition)
        self._committed.pop(partition, None)
        self._queue = deque(record for record in self._queue if record.partition != partition)

    def deliver(self, topic: str, partition: int, records: Sequence[Incoming]) -> None:
        self._queue.extend(records)
        self._wake.set()
        if len(self._queue) > QUEUE and self._membership is not None:
            self._membership.pause(topic, partition)
            self._paused.add(partition)

    # --- taking ------------------------------------------------------------------------------------

    async def _take_loop(self) -> None:
        while True:
            await self._executor.wait_for_room()
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            room = max(1, min(BATCH, self._executor.concurrency - self._executor.held))
            batch = [self._queue.popleft() for _ in range(min(room, len(self._queue)))]
            self._resume()
            # Not to be cut short: what was claimed has to be started, or nobody would run it.
            await asyncio.shield(self._executor.take(await self._decoded(batch)))
            for record in batch:
                if record.partition in self._owned:
                    self._taken[record.partition] = record.offset + 1

    def _resume(self) -> None:
        if self._paused and len(self._queue) < QUEUE // 2 and self._membership is not None:
            for partition in self._paused:
                self._membership.resume(self._names.tasks, partition)
            self._paused.clear()

    async def _decoded(self, batch: Sequence[Incoming]) -> list[Offered]:
        offers: list[Offered] = []
        for record in batch:
            try:
                found = TASKS.decode(record.value)
            except Undecodable as error:
                await self._log.publish([dead_letter(self._names, record, str(error))])
                continue
            document, slices = (*found.segments, b"", b"")[:2]
            offers.append((found.message, (document, slices)))
        return offers

    async def _commit_loop(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            news = {p: offset for p, offset in self._taken.items() if self._committed.get(p) != offset}
            for partition, offset in news.items():
                await self._commit(partition, offset)

    async def _commit(self, partition: int, offset: int) -> None:
        if self._membership is None:
            return
        try:
            await self._membership.commit(self._names.tasks, partition, Committed(offset))
            self._committed[partition] = offset
        except ServerUnavailable as error:
            log.warning("taken offers were not committed: %s", error)
