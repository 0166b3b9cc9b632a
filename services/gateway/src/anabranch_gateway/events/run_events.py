"""Reads the events of one run: first those of the past, then new ones until the run's last event.

Also encodes them for Server-Sent Events and WebSockets.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from anabranch.core.wire.events import is_wanted
from anabranch.sdk.run_events import LAST_TYPES, shown
from anabranch_gateway.events.broadcaster import DecodedEvents, EventBroadcaster, EventRecord
from anabranch_gateway.events.cursor import EventId, StreamPosition

HEARTBEAT_SECONDS = 15.0
CHUNK_BYTES = 64_000


@dataclass(frozen=True, slots=True)
class StreamPause:
    """No event for `HEARTBEAT_SECONDS`; or with `dropped` the listener was too slow, and events are missing."""

    dropped: bool = False


@dataclass(frozen=True, slots=True)
class ReadStart:
    """Where to start: after an event, or at the offset `first` of the run's first record (0 if unknown)."""

    after: EventId | None
    first: int

    @property
    def offset(self) -> int:
        """The first offset to read. The record of `after` is read again: it may have further events."""
        return self.first if self.after is None else self.after.offset

    @property
    def position(self) -> StreamPosition:
        """The reader's state before that offset."""
        return StreamPosition() if self.after is None else self.after.before

    @property
    def seq(self) -> int:
        """The `seq` of the last event that the caller has."""
        return 0 if self.after is None else self.after.seq


async def read_past(
    broadcaster: EventBroadcaster, run_id: str, start: ReadStart
) -> AsyncGenerator[DecodedEvents, None]:
    """Yields the events that a run has now, record by record. Raises ServerUnavailable."""
    partition = await broadcaster.partition_of(run_id)
    reader = _Reader(start)
    until = broadcaster.position(partition)
    async with aclosing(broadcaster.history(run_id, partition, start.offset, until)) as records:
        async for record in records:
            yield reader.read(record)


async def follow(
    broadcaster: EventBroadcaster, run_id: str, start: ReadStart
) -> AsyncGenerator[DecodedEvents | StreamPause, None]:
    """Yields the past and new events of a run, record by record, and a `StreamPause` after each heartbeat
    interval.

    Ends after the run's last event, or when the listener was dropped. Raises ServerUnavailable.
    """
    partition = await broadcaster.partition_of(run_id)
    reader = _Reader(start)
    # The listener is registered before the past is read, so records that arrive meanwhile are queued, not missed.
    with broadcaster.follow(run_id, partition) as listener:
        history = broadcaster.history(run_id, partition, start.offset, listener.start)
        async with aclosing(history) as records:
            async for record in records:
                if (found := reader.read(record)).events:
                    yield found
                if reader.ended:
                    return
        while True:
            taken = await listener.take(HEARTBEAT_SECONDS)
            for record in taken:
                # A client that resumes may come from a gateway that has read further than this one: the records
                # before its position arrive here later, and are skipped.
                if record.offset >= start.offset and (found := reader.read(record)).events:
                    yield found
            if reader.ended:
                return
            if listener.dropped:
                yield StreamPause(dropped=True)
                return
            if not taken:
                yield StreamPause()


class _Reader:
    """Numbers the events of records in order, and skips those that the caller has."""

    def __init__(self, start: ReadStart) -> None:
        self._position = start.position
        self._seq = start.seq
        self.ended = False

    def read(self, record: EventRecord) -> DecodedEvents:
        found, self._position = record.events(self._position)
        self.ended = self.ended or any(event["type"] in LAST_TYPES for _, event in found.events)
        return found.after(self._seq)


def select(decoded: DecodedEvents, types: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Ids and documents of the events that match the filter; no types match all events."""
    return [(str(event_id), shown(event)) for event_id, event in decoded.events if is_wanted(event["type"], types)]


def sse(decoded: DecodedEvents, types: Sequence[str] = ()) -> list[bytes]:
    """The events as Server-Sent Events, in chunks of one write each.

    Without a filter the encoded chunks are cached in `decoded`, and all listeners send the same bytes.
    """
    if types:
        return _chunks(select(decoded, types))
    if decoded.encoded is None:
        decoded.encoded = _chunks(select(decoded, ()))
    return decoded.encoded


def _chunks(events: Sequence[tuple[str, dict[str, Any]]]) -> list[bytes]:
    # One write for many small events costs far less than a write for each.
    chunks: list[bytes] = []
    chunk = bytearray()
    for event_id, event in events:
        chunk += sse_message(event["type"], event, event_id)
        if len(chunk) > CHUNK_BYTES:
            chunks.append(bytes(chunk))
            chunk.clear()
    return [*chunks, bytes(chunk)] if chunk else chunks


def sse_message(kind: str, data: Any, event_id: str | None = None) -> bytes:
    """One Server-Sent Event. Encoded JSON has no line breaks, so the data fits in one `data` line."""
    id_line = b"" if event_id is None else b"id: " + event_id.encode() + b"\n"
    return id_line + b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def ws_message(event_id: str, event: dict[str, Any]) -> str:
    """One message of a WebSocket."""
    return orjson.dumps({"id": event_id, "event": event}).decode()
