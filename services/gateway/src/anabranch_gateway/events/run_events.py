"""A run's events, from any place on: what was, then what comes. Ends with the run's last event.

Also the two ways in which they are sent: Server-Sent Events and messages of a WebSocket.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from anabranch.core.wire.events import is_wanted
from anabranch.sdk.run_events import LAST_TYPES, shown
from anabranch_gateway.events.broadcaster import EventBroadcaster, EventRecord, LogRecord
from anabranch_gateway.events.cursor import EventPlace, StreamPosition

HEARTBEAT_SECONDS = 15.0
CHUNK_BYTES = 64_000


@dataclass(frozen=True, slots=True)
class StreamGap:
    """Nothing came for a while, or there is a gap: `dropped` says that the listener was too slow."""

    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin: after an event, or at the run's first record (0 where that is not known)."""

    after: EventPlace | None
    first: int

    @property
    def offset(self) -> int:
        return self.first if self.after is None else self.after.offset

    @property
    def knowledge(self) -> StreamPosition:
        return StreamPosition() if self.after is None else self.after.before

    @property
    def seq(self) -> int:
        return 0 if self.after is None else self.after.seq


async def past(live: EventBroadcaster, run_id: str, start: Start) -> AsyncGenerator[LogRecord, None]:
    """The events there are by now, record by record. Raises ServerUnavailable."""
    partition = await live.partition_of(run_id)
    reader = _Reader(start)
    async with aclosing(live.history(run_id, partition, start.offset, live.position(partition))) as records:
        async for record in records:
            yield reader.read(record)


async def followed(
    live: EventBroadcaster, run_id: str, start: Start
) -> AsyncGenerator[LogRecord | StreamGap, None]:
    """Yields a run's past and future events, record by record, and a `StreamGap` at each silence. Ends after the
    last event of the run, or when the listener was dropped. Raises ServerUnavailable."""
    partition = await live.partition_of(run_id)
    reader = _Reader(start)
    with live.follow(run_id, partition) as listener:
        async with aclosing(live.history(run_id, partition, start.offset, listener.start)) as records:
            async for record in records:
                if (found := reader.read(record)).events:
                    yield found
                if reader.ended:
                    return
        while True:
            taken = await listener.take(HEARTBEAT_SECONDS)
            for record in taken:
                if record.offset >= start.offset and (found := reader.read(record)).events:
                    yield found
            if reader.ended:
                return
            if listener.dropped:
                yield StreamGap(dropped=True)
                return
            if not taken:
                yield StreamGap()


class _Reader:
    """Reads records in order, and leaves out what the caller has."""

    def __init__(self, start: Start) -> None:
        self._knowledge = start.knowledge
        self._seq = start.seq
        self.ended = False

    def read(self, record: EventRecord) -> LogRecord:
        found, self._knowledge = record.events(self._knowledge)
        self.ended = self.ended or any(event["type"] in LAST_TYPES for _, event in found.events)
        return found.after(self._seq)


def wanted(told: LogRecord, types: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Ids and events that a filter lets through, as people get them."""
    return [(str(place), shown(event)) for place, event in told.events if is_wanted(event["type"], types)]


def sse(told: LogRecord, types: Sequence[str] = ()) -> list[bytes]:
    """The same as Server-Sent Events, in pieces that one write can take. Of all types they are made once, and all
    listeners get the same bytes."""
    if types:
        return _pieces(wanted(told, types))
    if told.encoded is None:
        told.encoded = _pieces(wanted(told, ()))
    return told.encoded


def _pieces(told: Sequence[tuple[str, dict[str, Any]]]) -> list[bytes]:
    pieces: list[bytes] = []
    piece = bytearray()
    for event_id, event in told:
        piece += sse_message(event["type"], event, event_id)
        if len(piece) > CHUNK_BYTES:
            pieces.append(bytes(piece))
            piece.clear()
    return [*pieces, bytes(piece)] if piece else pieces


def sse_message(kind: str, data: Any, event_id: str | None = None) -> bytes:
    """One Server-Sent Event; JSON has no line breaks."""
    named = b"" if event_id is None else b"id: " + event_id.encode() + b"\n"
    return named + b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def ws_message(event_id: str, event: dict[str, Any]) -> str:
    """One message of a WebSocket."""
    return orjson.dumps({"id": event_id, "event": event}).decode()
