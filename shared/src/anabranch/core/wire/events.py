"""Lifecycle events: one record for each turn of an owner and run, which readers expand into single events. Pure.

An entry about many members has their spans; `explode` returns the single events in order. Each entry has a cause:
the record that the owner applied, and the number of the event within that turn. A reader drops an entry whose
cause is not after the last one of its source. Repetitions after a crash are therefore dropped, even if the
repeated events were divided into records at other places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from anabranch.core.admissions import log_position
from anabranch.core.json_documents import dumps
from anabranch.core.wire.message_parts import Spans, empty_object
from anabranch.core.wire.usage import USAGE, fields_of, split_usage

Source = Literal["runs", "groups"]

EVENT_TYPES = (
    "run.accepted",
    "run.scheduled",
    "run.queued",
    "run.started",
    "run.paused",
    "run.resumed",
    "run.compensating",
    "run.completed",
    "run.failed",
    "run.cancelled",
    "run.timed_out",
    "group.started",
    "group.completed",
    "group.failed",
    "group.cancelled",
    "group.timed_out",
    "task.waiting",
    "task.expanded",
    "task.started",
    "task.completed",
    "task.failed",
    "task.retrying",
    "task.skipped",
    "task.cancelled",
    "task.progress",
    "task.log",
    "task.joined",
    "signal.received",
    "signal.refused",
    "event.received",
    "event.refused",
    "approval.decided",
    "approval.refused",
    "iteration.started",
    "iteration.completed",
    "iteration.failed",
    "schedule.fired",
    "schedule.missed",
    "schedule.paused",
    "schedule.resumed",
    "breaker.opened",
    "breaker.closed",
)
"""Every lifecycle event. An expanded task has started, completed, failed and retrying for each member, between one
expanded and one joined. Those of an iteration name the task that is the loop, and those of a schedule or a
breaker have its address in place of a run id."""

BATCH_BYTES = 700_000
"""Maximum bytes of one record, unless a single entry is larger."""
# 3 bits of the generation, 40 of the offset and 20 of the number fit into the 63 bits of a signed integer.
_NTH_BITS = 20
_MAX_GENERATION = 7


class EventEntry(BaseModel):
    """One event, or with `spans` one event for each of these members."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    cause: int
    """Rises with each entry of one source; a repeated entry has the same cause. See `cause_of`."""
    time: float
    """Seconds since the epoch."""
    group: str | None = None
    task: str | None = None
    index: int | None = None
    spans: Spans | None = None
    attempt: int | None = None
    iteration: tuple[int, ...] = ()
    """Numbers of the iterations of the loops around the task, from 0, that of the outermost loop first."""
    data: dict[str, Any] = empty_object()
    """Further fields, by type of event: `count`, `error_type`, `message`, `traceback`, `status`,
    `result_keys`, `name`, `labels`."""


class EventBatch(BaseModel):
    """The events of one run from one turn of one owner. The record's key is the run id."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["events"] = "events"
    run_id: str
    request_id: str = ""
    session_id: str
    source: Source
    entries: tuple[EventEntry, ...]
    """May be empty, if only `quiet` changes."""
    quiet: bool = False
    """Only of source `groups`: True if no events are expected, because the run is paused or waits for something
    outside."""


@dataclass(slots=True)
class EventSequence:
    """Converts the batches of one run, in log order, to its events: each once, with `seq` from 1."""

    seq: int = 0
    _last_cause: dict[Source, int] = field(default_factory=dict)

    @classmethod
    def resumed(cls, seq: int, causes: Mapping[Source, int]) -> Self:
        """A sequence that continues another one, after `seq` events and with the last cause of each source."""
        return cls(seq, dict(causes))

    def last_cause(self, source: Source) -> int:
        """The cause of the last event that was read from a source; -1 before the first."""
        return self._last_cause.get(source, -1)

    def read(self, batch: EventBatch) -> Iterator[dict[str, Any]]:
        """The new events of a batch, as documents."""
        last = self._last_cause.get(batch.source, -1)
        for entry in batch.entries:
            if entry.cause <= last:
                continue
            for event in explode(batch, entry):
                self.seq += 1
                yield {"type": event.pop("type"), "time": event.pop("time"), "seq": self.seq, **event}
        if batch.entries:
            self._last_cause[batch.source] = max(last, batch.entries[-1].cause)


def joined_status(data: Mapping[str, Any]) -> Literal["completed", "failed"]:
    """Status of a joined task, from the data of its `task.joined` event. Earlier versions wrote no `status`, and a
    `message` only if too many members had failed."""
    status = data.get("status") or ("failed" if data.get("message") else "completed")
    return "failed" if status == "failed" else "completed"


def explode(batch: EventBatch, entry: EventEntry) -> Iterator[dict[str, Any]]:
    """The single events of an entry, without `seq`."""
    base = {
        "type": entry.type,
        "time": entry.time,
        "run_id": batch.run_id,
        "group": entry.group,
        "task": entry.task,
        "index": entry.index,
        "attempt": entry.attempt,
        **entry.data,
    }
    if entry.iteration:
        base["iteration"] = list(entry.iteration)
    if entry.spans is None:
        yield base
        return
    if USAGE in entry.data:
        yield from _with_usage(base, entry.spans)
        return
    for start, stop in entry.spans:
        for index in range(start, stop):
            yield {**base, "index": index}


def _with_usage(base: dict[str, Any], spans: Spans) -> Iterator[dict[str, Any]]:
    """The single events of an entry that has numbers for each of its members."""
    rest, usage = split_usage(base)
    indexes = [index for start, stop in spans for index in range(start, stop)]
    for index, used in zip_longest(indexes, usage[: len(indexes)]):
        yield {**rest, "index": index, **fields_of(used)}


def is_wanted(event_type: str, types: Sequence[str]) -> bool:
    """True if an event matches a filter; without types every event does, and `task.*` matches every `task.`
    event."""
    return not types or any(_matches(event_type, each) for each in types)


def _matches(event_type: str, pattern: str) -> bool:
    return event_type.startswith(pattern[:-1]) if pattern.endswith("*") else event_type == pattern


def cause_of(offset: int, nth: int, generation: int = 0) -> int:
    """The cause of the `nth` event (from 0) of the turn of the record at `offset` of the owner's partition.

    Readers drop an event whose cause is not above the last one they know. A topic that was deleted and created
    again counts offsets from 0, so the `generation` of the log is the high part of the cause and the offset the
    low part. Numbers beyond the bits of a part are clamped.
    """
    # Nearly every log is in generation 0, where the position is the offset.
    position = log_position(min(generation, _MAX_GENERATION), offset) if generation else offset
    return (position << _NTH_BITS) + min(nth, (1 << _NTH_BITS) - 1)


def encode_batches(batch: EventBatch) -> list[bytes]:
    """The record values of a batch: several if one record cannot hold its entries."""
    value = encode_batch(batch)
    if len(value) <= BATCH_BYTES or len(batch.entries) == 1:
        return [value]
    half = len(batch.entries) // 2
    parts = (batch.entries[:half], batch.entries[half:])
    return [value for part in parts for value in encode_batches(batch.model_copy(update={"entries": part}))]


def encode_batch(batch: EventBatch) -> bytes:
    """The record value of a batch."""
    # As `model_dump` does, without its Python frame.
    document = batch.__pydantic_serializer__.to_python(batch, mode="json", exclude_defaults=True)
    # `exclude_defaults` leaves `type` out, because it always has its default.
    document["type"] = "events"
    return dumps(document)


def decode_batch(value: bytes) -> EventBatch:
    """Decode a record value. Raises pydantic's ValidationError if it is not a batch."""
    return EventBatch.model_validate_json(value)
