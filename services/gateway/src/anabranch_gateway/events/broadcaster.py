"""The events topic as this process sees it: one reader for all who listen, and the last of it kept in memory.

Whoever follows a run gets its records from a position on; what lies before that is read from the memory of the
last megabytes, or off the log. Each listener is bounded: one that does not keep up is dropped and resumes by the
id of the last event that it has. Decides nothing about what events mean.
"""

from __future__ import annotations

import asyncio
import logging
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
from anabranch_gateway.events.cursor import EventPlace, StreamPosition

WINDOW_BYTES = 32_000_000
QUEUE_RECORDS = 2_000
QUEUE_BYTES = 8_000_000
"""What waits for one listener at most."""
READERS = 8
"""So many read old events off the log at once; each has a connection of its own."""
KEPT_EVENTS = 1_000
"""A record's events are kept, for the next listener, where they are no more than these."""
REOPEN_SECONDS = 1.0

_log = logging.getLogger("anabranch.gateway")

OFFERED_AT_ONCE = 100
"""Listeners woken in one turn of the loop: submits come in between."""

Event = tuple[EventPlace, dict[str, Any]]


class LogRecord:
    """Events of one record for all listeners who know the same; `encoded` is kept for the next of them."""

    __slots__ = ("encoded", "events")

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.encoded: list[bytes] | None = None

    def after(self, seq: int) -> LogRecord:
        """Those that a listener does not have yet."""
        if not self.events or self.events[0][0].seq > seq:
            return self
        return LogRecord([each for each in self.events if each[0].seq > seq])


class EventRecord:
    """A record of the topic, decoded once for all who read it."""

    __slots__ = ("_batch", "_events", "key", "offset", "partition", "size", "value")

    def __init__(self, record: Incoming) -> None:
        self.partition = record.partition
        self.offset = record.offset
        self.key = record.key or b""
        self.value = record.value
        self.size = len(record.value) + 200
        self._batch: EventBatch | Literal[False] | None = None
        self._events: tuple[StreamPosition, LogRecord, StreamPosition] | None = None

    @property
    def batch(self) -> EventBatch | None:
        """The events in it; None where it is something else, such as a subscription."""
        if self._batch is None:
            try:
                self._batch = decode_batch(self.value)
            except ValidationError:
                self._batch = False
        return self._batch or None

    def events(self, before: StreamPosition) -> tuple[LogRecord, StreamPosition]:
        """Its new events for a reader with this knowledge, and what is known after it."""
        if self._events is not None and self._events[0] == before:
            return self._events[1], self._events[2]
        batch = self.batch
        if batch is None:
            return LogRecord([]), before
        sequence = before.sequence()
        told = ((EventPlace(self.offset, before, int(event["seq"])), event) for event in sequence.read(batch))
        found, after = LogRecord(list(told)), StreamPosition.of(sequence)
        if len(found.events) <= KEPT_EVENTS:
            self._events = (before, found, after)
        return found, after


class EventListener:
    """What comes of one run, or of all, for one reader. `start` is the first offset that it may get."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.dropped = False
        self._records: deque[EventRecord] = deque()
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, record: EventRecord) -> None:
        """Queue a record; a listener whose queue is full is dropped."""
        if self.dropped:
            return
        self._records.append(record)
        self._bytes += record.size
        if len(self._records) > QUEUE_RECORDS or self._bytes > QUEUE_BYTES:
            self.drop()
        self._wake()

    def drop(self) -> None:
        """There is a gap from here on: nothing more comes."""
        self.dropped = True
        self._records.clear()
        self._bytes = 0
        self._wake()

    async def take(self, timeout: float) -> Sequence[EventRecord]:
        """The records that wait; none after `timeout` seconds of silence, or where it was dropped."""
        if not self._records and not self.dropped:
            await self._news(timeout)
        taken = list(self._records)
        self._records.clear()
        self._bytes = 0
        return taken

    async def _news(self, timeout: float) -> None:
        # A bare future: a thousand listeners wait here again after each event, and `asyncio.timeout` costs more.
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


class Window:
    """The last records of the topic, by run; bounded by bytes.

    Invariant: of each partition everything from `floor` on that was read is here.
    """

    def __init__(self, limit: int = WINDOW_BYTES) -> None:
        self._limit = limit
        self._bytes = 0
        self._order: deque[EventRecord] = deque()
        self._runs: dict[bytes, deque[EventRecord]] = {}
        self.floor: dict[int, int] = {}

    def restart(self, positions: dict[int, int]) -> None:
        """Forget everything: from these positions on it is read."""
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
        oldest = self._order.popleft()
        self._bytes -= oldest.size
        self.floor[oldest.partition] = oldest.offset + 1
        of_run = self._runs[oldest.key]
        of_run.popleft()
        if not of_run:
            del self._runs[oldest.key]

    def of_run(self, key: bytes, start: int, until: int) -> list[EventRecord]:
        return [record for record in self._runs.get(key, ()) if start <= record.offset < until]


class EventBroadcaster:
    """See the module. Positions are next offsets, by partition."""

    def __init__(self, log: EventLog, names: Names) -> None:
        self._log = log
        self._names = names
        self._window = Window()
        self._positions: dict[int, int] = {}
        self._followers: dict[bytes, set[EventListener]] = {}
        self._all: set[EventListener] = set()
        self._reading = asyncio.Semaphore(READERS)
        self._is_open = asyncio.Event()
        self.unhealthy_reason: str | None = "the events topic is not read yet"

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await until_available(
                self._read, "read the events topic", delay=REOPEN_SECONDS, on_failure=self._interrupted
            )
            self._drop_all()
            await asyncio.sleep(REOPEN_SECONDS)

    def _interrupted(self, error: Exception) -> None:
        self.unhealthy_reason = str(error)
        self._drop_all()

    async def opened(self) -> None:
        """Wait until nothing is missed any more."""
        await self._is_open.wait()

    async def partition_of(self, run_id: str) -> int:
        return await self._log.partition_for(self._names.events, run_id)

    def position(self, partition: int) -> int:
        """The next offset that comes."""
        return self._positions.get(partition, 0)

    @contextmanager
    def follow(self, run_id: str, partition: int) -> Iterator[EventListener]:
        """A listener to one run, from the position of its partition on."""
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
        """A listener to every run."""
        listener = EventListener(0)
        self._all.add(listener)
        try:
            yield listener
        finally:
            self._all.discard(listener)

    async def history(
        self, run_id: str, partition: int, start: int, until: int
    ) -> AsyncGenerator[EventRecord, None]:
        """The records of a run in [start, until), from memory where that reaches so far back.

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
            async with aclosing(self._old(partition, start, floor)) as records:
                async for record in records:
                    if record.key == key:
                        yield EventRecord(record)
            start = floor  # memory may have moved on meanwhile: it is looked at again

    async def _old(self, partition: int, start: int, until: int) -> AsyncGenerator[Incoming, None]:
        """Records of all runs off the log. What its retention has taken is not waited for."""
        topic = self._names.events
        async with self._reading:
            standing = await self._log.group_standing(self._names.eventmanager, topic)
            first = max(start, standing[partition].first)
            async with aclosing(records_between(self._log, topic, partition, first, until)) as records:
                async for record in records:
                    yield record

    def close_listeners(self) -> None:
        """End every stream: the process stops."""
        self._drop_all()

    async def _read(self) -> None:
        async with self._log.read(self._names.events) as reader:
            # The reader's own start is a little before: what lies between is dropped, and is read as history.
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
        # Copies: who comes meanwhile starts behind this record, and finds it in the window.
        for count, listener in enumerate((*self._all, *self._followers.get(record.key, ())), 1):
            listener.offer(record)
            if count % OFFERED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _drop_all(self) -> None:
        for listener in [*self._all, *(each for found in self._followers.values() for each in found)]:
            listener.drop()
