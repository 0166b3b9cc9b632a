"""Ids of events, which make an event stream resumable. Pure.

The events of a run are numbered (`seq`) by the reader, which counts them from the run's first record. Therefore an
id carries, besides the offset of the event's record, the state of the reader before that record: a resumed stream
seeks to the record and continues the numbering, without reading the events before it. Callers treat ids as opaque.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from anabranch.core.wire.events import EventSequence
from anabranch_gateway.http.problems import Refusal

_ID = re.compile(r"(\d{1,19})\.(\d{1,19})\.(\d{1,19})\.(-?\d{1,19})\.(-?\d{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """State of a reader of a run's events: the last `seq`, and the last cause of each source (-1 for none)."""

    seq: int = 0
    runs: int = -1
    groups: int = -1

    def sequence(self) -> EventSequence:
        """A sequence that numbers the events after this position, and drops repeated ones."""
        return EventSequence.resumed(self.seq, {"runs": self.runs, "groups": self.groups})

    @classmethod
    def of(cls, sequence: EventSequence) -> Self:
        return cls(sequence.seq, sequence.last_cause("runs"), sequence.last_cause("groups"))


@dataclass(frozen=True, slots=True)
class EventId:
    """Id of an event: offset of its record in the run's partition, the position before the record, its `seq`."""

    offset: int
    before: StreamPosition
    seq: int

    def __str__(self) -> str:
        return f"{self.offset}.{self.seq}.{self.before.seq}.{self.before.runs}.{self.before.groups}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The id that a caller sent. Raises Refusal 422 if it is malformed."""
        match = _ID.fullmatch(text)
        if match is None:
            detail = f"{text[:80]!r} is not an event id: use the id of an event, or next_after"
            raise Refusal(422, "bad_position", detail)
        offset, seq, before, runs, groups = (int(each) for each in match.groups())
        return cls(offset, StreamPosition(before, runs, groups), seq)
