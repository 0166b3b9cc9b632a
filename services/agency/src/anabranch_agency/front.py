"""Reads the requests topic: looks up what a session already has, decides, publishes, then commits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from anabranch.core.admission import session_candidates
from anabranch.core.envelope import unwrap
from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.core.names import session_id_problem, session_key
from anabranch.ports import Committed, EventLog, Incoming, Membership, Outgoing, StateStore
from anabranch_agency.admission import Desk, document_of, handle, is_control, origin_of, unhandled

log = logging.getLogger(__name__)

BATCH = 200
PAUSE_ABOVE = 1_000
RETRY_SECONDS = 0.2


class Front:
    """A member of the group that reads requests. A `PartitionListener`.

    What a record becomes is durable before its offset is committed, so a crash repeats and never loses it.
    """

    def __init__(self, desk: Desk, eventlog: EventLog, store: StateStore) -> None:
        self._desk = desk
        self._log = eventlog
        self._store = store
        self._queue: deque[Incoming] = deque()
        self._wake = asyncio.Event()
        self._done: dict[int, int] = {}
        self._owned: set[int] = set()
        self._paused: set[int] = set()
        self._membership: Membership | None = None
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self.failure: BaseException | None = None

    async def start(self) -> None:
        """Join the group that reads requests."""
        names = self._desk.names
        self._membership = await self._log.join(names.agency_requests, [names.requests], self)
        self._task = asyncio.create_task(self._loop(), name="requests")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Leave the group; what was read and not handled is somebody else's."""
        if self._membership is not None:
            membership, self._membership = self._membership, None
            await membership.close()
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            log.critical("the reader of requests stopped", exc_info=self.failure)

    # --- PartitionListener -------------------------------------------------------------------------

    async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
        self._owned.add(partition)
        return None

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        done = self._done.get(partition)
        self._drop(partition)
        return Committed(done) if done is not None else None

    async def lost(self, topic: str, partition: int) -> None:
        self._drop(partition)

    def _drop(self, partition: int) -> None:
        self._owned.discard(partition)
        self._paused.discard(partition)
        self._done.pop(partition, None)
        self._queue = deque(record for record in self._queue if record.partition != partition)

    def deliver(self, topic: str, partition: int, records: Sequence[Incoming]) -> None:
        self._queue.extend(records)
        self._wake.set()
        if len(self._queue) > PAUSE_ABOVE and self._membership is not None:
            self._paused.add(partition)
            self._membership.pause(topic, partition)

    # --- handling ----------------------------------------------------------------------------------

    async def _loop(self) -> None:
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            self._resume()
            await self._handle(batch)
            await self._commit(batch)

    def _resume(self) -> None:
        if self._paused and len(self._queue) < PAUSE_ABOVE // 2 and self._membership is not None:
            for partition in self._paused:
                self._membership.resume(self._desk.names.requests, partition)
            self._paused.clear()

    async def _handle(self, batch: Sequence[Incoming]) -> None:
        """Handle records together; where that fails, one by one, so that none stands in the others' way."""
        try:
            await self._publish(batch)
        except Exception as error:
            # Whatever it is, it must not come again with each reader.
            if len(batch) == 1:
                log.exception("the request at %s cannot be handled", origin_of(batch[0]))
                await self._refuse(batch[0], error)
            else:
                for record in batch:
                    await self._handle([record])

    async def _publish(self, batch: Sequence[Incoming]) -> None:
        while True:
            try:
                outgoing = [each for record in batch for each in await self._one(record)]
                await self._log.publish(outgoing)
                return
            except (ServerUnavailable, StoreRefused) as error:
                log.warning("requests wait: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _refuse(self, record: Incoming, error: Exception) -> None:
        outgoing = list(unhandled(self._desk, record, error))
        while True:
            try:
                await self._log.publish(outgoing)
                return
            except ServerUnavailable as away:
                log.warning("a refusal waits: %s", away)
                await asyncio.sleep(RETRY_SECONDS)

    async def _one(self, record: Incoming) -> list[Outgoing]:
        document = document_of(record.value, self._desk.limits)
        found = await self._session_keys(document) if not is_control(document) else ()
        return list(handle(self._desk, record, document, found))

    async def _session_keys(self, document: Any) -> Collection[str]:
        """Which keys that nobody in the request provides the named session has from earlier runs."""
        session_id = unwrap(document).request.get("session_id") if isinstance(document, Mapping) else None
        if not isinstance(session_id, str) or session_id_problem(session_id):
            return ()
        keys = sorted(session_candidates(document))
        if not keys:
            return ()
        found = await self._store.get([session_key(session_id, key) for key in keys])
        return [key for key, value in zip(keys, found, strict=True) if value is not None]

    async def _commit(self, batch: Sequence[Incoming]) -> None:
        for record in batch:
            if record.partition in self._owned:
                self._done[record.partition] = record.offset + 1
        for partition in {record.partition for record in batch} & self._owned:
            if self._membership is None:
                return
            try:
                await self._membership.commit(
                    self._desk.names.requests, partition, Committed(self._done[partition])
                )
            except ServerUnavailable as error:
                log.warning("handled requests were not committed, they may be read again: %s", error)
