"""Broadcasts the events topic to all listeners of this process: one reader, and a window of recent records in
memory.

A listener gets the records of a run from the reader's current position on. Earlier records are replayed from the
window, or from the log if they are older. The queue of each listener is bounded: a listener that is too slow is
dropped, and its client resumes with the id of the last event that it received.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Literal

from pydantic import ValidationError

from anabranch.core.names import Names
from anabranch.core.wire.events import EventBatch, decode_batch
from anabranch.ports import EventLog, Incoming
from anabranch.runtime.reading.log_range import records_between
from anabranch.runtime.until_available import until_available
from anabranch_gateway.events.cursor import EventId, StreamPosition

WINDOW_BYTES = 32_000_000
QUEUE_RECORDS = 2_000
QUEUE_BYTES = 8_000_000
"""Maximum size of the queue of one listener; a fuller queue drops the listener."""
MAX_HISTORY_READERS = 8
"""Maximum concurrent replays from the log: each has a connection of its own."""
MAX_CACHED_EVENTS = 1_000
"""Maximum events of a record whose decoded form is kept for the next listener."""
REOPEN_SECONDS = 1.0

WAKE_BATCH = 100
"""Listeners woken before yielding to the event loop, so that a thousand listeners do not delay other requests."""

Event = tuple[EventId, dict[str, Any]]


class DecodedEvents:
    """The events of one record, shared by all listeners at the same position.

    `encoded` caches their SSE form, which is the same for all listeners without a filter.
    """

    __slots__ = ("encoded", "events")

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.encoded: list[bytes] | None = None

    def after(self, seq: int) -> DecodedEvents:
        """The events with a higher `seq`: those that a resumed listener does not have yet."""
        if not self.events or self.events[0][0].seq > seq:
            return self
        return DecodedEvents([each for each in self.events if each[0].seq > seq])


class EventRecord:
    """A record of the events topic, which is decoded only once for all listeners."""

    __slots__ = ("_batch", "_events", "key", "offset", "partition", "size", "value")

    def __init__(self, record: Incoming) -> None:
        self.partition = record.partition
        self.offset = record.offset
        self.key = record.key or b""
        self.value = record.value
        # The Python objects of a record take about 200 bytes besides its value.
        self.size = len(record.value) + 200
        # False if it is not a batch of events, None until it is decoded.
        self._batch: EventBatch | Literal[False] | None = None
        self._events: tuple[StreamPosition, DecodedEvents, StreamPosition] | None = None

    @property
    def batch(self) -> EventBatch | None:
        """The record's events; None for another record of the topic, such as a subscription."""
        if self._batch is None:
            try:
                self._batch = decode_batch(self.value)
            except ValidationError:
                self._batch = False
        return self._batch or None

    def events(self, before: StreamPosition) -> tuple[DecodedEvents, StreamPosition]:
        """The record's new events for a reader at a position, and the position after the record.

        The result is cached: listeners that read a run from its beginning are at the same position.
        """
        if self._events is not None and self._events[0] == before:
            return self._events[1], self._events[2]
        batch = self.batch
        if batch is None:
            return DecodedEvents([]), before
        sequence = before.sequence()
        numbered = ((EventId(self.offset, before, int(event["seq"])), event) for event in sequence.read(batch))
        found, after = DecodedEvents(list(numbered)), StreamPosition.of(sequence)
        # Only one position is cached: nearly all listeners of a run are at the same one.
        if len(found.events) <= MAX_CACHED_EVENTS:
            self._events = (before, found, after)
        return found, after


class EventListener:
    """Bounded queue of new records of one run, or of all runs. `start` is the first offset that it may receive."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.dropped = False
        self._records: deque[EventRecord] = deque()
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, record: EventRecord) -> None:
        """Queue a record, and wake the reader; if the queue is full, drop the listener."""
        if self.dropped:
            return
        self._records.append(record)
        self._bytes += record.size
        if len(self._records) > QUEUE_RECORDS or self._bytes > QUEUE_BYTES:
            self.drop()
        self._wake()

    def drop(self) -> None:
        """End the listener: it lacks records from here on and receives no more."""
        self.dropped = True
        self._records.clear()
        self._bytes = 0
        self._wake()

    async def take(self, timeout: float) -> Sequence[EventRecord]:
        """The queued records; empty after `timeout` seconds without a record, or if the listener was dropped."""
        if not self._records and not self.dropped:
            await self._wait(timeout)
        taken = list(self._records)
        self._records.clear()
        self._bytes = 0
        return taken

    async def _wait(self, timeout: float) -> None:
        # A thousand listeners wait here after each event: a bare future costs far less than `asyncio.timeout`.
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        alarm = loop.call_later(timeout, self._wake)
        try:
            await self._waiter
        finally:
            alarm.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class RecordWindow:
    """The most recent records of the topic by run, bounded by bytes: the oldest record is evicted first.

    Invariant: of each partition, all records read from offset `floor` on are here.
    """

    def __init__(self, limit: int = WINDOW_BYTES) -> None:
        self._limit = limit
        self._bytes = 0
        self._order: deque[EventRecord] = deque()
        self._runs: dict[bytes, deque[EventRecord]] = {}
        self.floor: dict[int, int] = {}

    def restart(self, positions: dict[int, int]) -> None:
        """Forget all records, because the reader starts again at these positions."""
        self._order.clear()
        self._runs.clear()
        self._bytes = 0
        self.floor = dict(positions)

    def add(self, record: EventRecord) -> None:
        self._order.append(record)
        self._runs.setdefault(record.key, deque()).append(record)
        self._bytes += record.size
        while self._bytes > self._limit:
            self._evict()

    def _evict(self) -> None:
        # The oldest record of the topic is also the oldest one of its run.
        oldest = self._order.popleft()
        self._bytes -= oldest.size
        self.floor[oldest.partition] = oldest.offset + 1
        of_run = self._runs[oldest.key]
        of_run.popleft()
        if not of_run:
            del self._runs[oldest.key]

    def of_run(self, key: bytes, start: int, until: int) -> list[EventRecord]:
        """The records of a run in [start, until)."""
        return [record for record in self._runs.get(key, ()) if start <= record.offset < until]


class EventBroadcaster:
    """Reads the events topic and distributes its records to listeners.

    A position is the next offset to read of a partition.
    """

    def __init__(self, log: EventLog, names: Names) -> None:
        self._log = log
        self._names = names
        self._window = RecordWindow()
        self._positions: dict[int, int] = {}
        self._followers: dict[bytes, set[EventListener]] = {}
        self._all_listeners: set[EventListener] = set()
        self._history_readers = asyncio.Semaphore(MAX_HISTORY_READERS)
        self._is_open = asyncio.Event()
        self.unhealthy_reason: str | None = "the events topic is not read yet"

    async def run(self) -> None:
        """Read the topic until cancelled; after an error drop all listeners, whose clients then resume."""
        while True:
            await until_available(
                self._read, "read the events topic", delay=REOPEN_SECONDS, on_failure=self._interrupt
            )
            self._drop_listeners()
            await asyncio.sleep(REOPEN_SECONDS)

    def _interrupt(self, error: Exception) -> None:
        self.unhealthy_reason = str(error)
        self._drop_listeners()

    async def wait_until_open(self) -> None:
        """Wait until the reader is open: from then on listeners miss no record."""
        await self._is_open.wait()

    async def partition_of(self, run_id: str) -> int:
        """The partition of a run's events."""
        return await self._log.partition_for(self._names.events, run_id)

    def position(self, partition: int) -> int:
        """The next offset of a partition that listeners will receive."""
        return self._positions.get(partition, 0)

    @contextmanager
    def follow(self, run_id: str, partition: int) -> Iterator[EventListener]:
        """Listen to one run, from the current position of its partition on."""
        key, listener = run_id.encode(), EventListener(self.position(partition))
        self._followers.setdefault(key, set()).add(listener)
        try:
            yield listener
        finally:
            followers = self._followers[key]
            followers.discard(listener)
            if not followers:
                del self._followers[key]

    @contextmanager
    def follow_all(self) -> Iterator[EventListener]:
        """Listen to all runs."""
        listener = EventListener(0)
        self._all_listeners.add(listener)
        try:
            yield listener
        finally:
            self._all_listeners.discard(listener)

    async def history(
        self, run_id: str, partition: int, start: int, until: int
    ) -> AsyncGenerator[EventRecord, None]:
        """The records of a run in [start, until), from the window, or from the log if they are older.

        Raises:
            ServerUnavailable: the log cannot be read.
        """
        key = run_id.encode()
        while start < until:
            floor = min(self._window.floor.get(partition, until), until)
            if start >= floor:
                for each in self._window.of_run(key, start, until):
                    yield each
                return
            async with aclosing(self._read_history(partition, start, floor)) as records:
                async for record in records:
                    if record.key == key:
                        yield EventRecord(record)
            start = floor  # the window may have evicted records meanwhile, so its floor is read again

    async def _read_history(self, partition: int, start: int, until: int) -> AsyncGenerator[Incoming, None]:
        """Records of all runs from the log, from the first one that its retention has left."""
        topic = self._names.events
        async with self._history_readers:
            standing = await self._log.group_standing(self._names.eventmanager, topic)
            first = max(start, standing[partition].first)
            async with aclosing(records_between(self._log, topic, partition, first, until)) as records:
                async for record in records:
                    yield record

    def close_listeners(self) -> None:
        """End all streams, because the process stops."""
        self._drop_listeners()

    async def _read(self) -> None:
        async with self._log.read(self._names.events) as reader:
            # The reader may deliver a few records before these offsets. They are dropped in `_dispatch`: a
            # listener that needs them reads them with `history`, and must not get them twice.
            self._positions = dict(await reader.end_offsets())
            self._window.restart(self._positions)
            self.unhealthy_reason = None
            self._is_open.set()
            async for records in reader:
                for record in records:
                    await self._dispatch(EventRecord(record))

    async def _dispatch(self, record: EventRecord) -> None:
        if record.offset < self._positions.get(record.partition, 0):
            return
        self._positions[record.partition] = record.offset + 1
        self._window.add(record)
        # Iterates over a copy: the loop yields, and listeners come and go meanwhile. A new listener starts after
        # this record, which it finds in the window.
        for count, listener in enumerate((*self._all_listeners, *self._followers.get(record.key, ())), 1):
            listener.offer(record)
            if count % WAKE_BATCH == 0:
                await asyncio.sleep(0)

    def _drop_listeners(self) -> None:
        for listener in [*self._all_listeners, *(each for found in self._followers.values() for each in found)]:
            listener.drop()
