"""Where an event stands: what makes a stream of events resumable. Pure.

A run's events are numbered by whoever reads them from the beginning; an id therefore carries, beside the offset of
its record, what the reader knew before that record. A resume seeks there directly, and reads nothing twice.
Ids are opaque to callers.
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
    """What a reader of a run's events knows before a record: the last `seq`, and the last cause of each source."""

    seq: int = 0
    runs: int = -1
    groups: int = -1

    def sequence(self) -> EventSequence:
        return EventSequence.resumed(self.seq, {"runs": self.runs, "groups": self.groups})

    @classmethod
    def of(cls, sequence: EventSequence) -> Self:
        return cls(sequence.seq, sequence.last_cause("runs"), sequence.last_cause("groups"))


@dataclass(frozen=True, slots=True)
class EventPlace:
    """An event: the offset of its record in the run's partition, what is known before it, and its `seq`."""

    offset: int
    before: StreamPosition
    seq: int

    def __str__(self) -> str:
        return f"{self.offset}.{self.seq}.{self.before.seq}.{self.before.runs}.{self.before.groups}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises Refusal 422 where the text is no id of an event."""
        match = _ID.fullmatch(text)
        if match is None:
            detail = f"{text[:80]!r} is no id of an event: take it from an event, or from next_after"
            raise Refusal(422, "bad_position", detail)
        offset, seq, before, runs, groups = (int(each) for each in match.groups())
        return cls(offset, StreamPosition(before, runs, groups), seq)
