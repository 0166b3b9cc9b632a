"""The trace of a run: ids that every process works out alike, sampled members, and spans as values. Pure.

A span's id is a hash of what it stands for, so a span that is told once more after a crash is the same span, and
whoever links to it need not be told its id. The trace is the producer's, where its record had a `traceparent`
(W3C Trace Context); else it follows from the run's id.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

MEMBERS = 100
"""Members of one task that are sampled, about."""
FAILURES = 100
"""Failed attempts of members beyond them that one worker tells of for one task."""
LINKS = 128
"""Of one span: what collectors take by default."""

Attribute = str | bool | int | float
Kind = Literal["internal", "consumer"]

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class RunTrace:
    """The trace that a run belongs to. `parent` is the producer's span, None where the run begins the trace;
    `sampled` is what its producer decided, None where it said nothing."""

    trace_id: int
    parent: int | None = None
    sampled: bool | None = None


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened at `at` (seconds since the epoch) within a span."""

    name: str
    at: float
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, slots=True)
class Span:
    """A span that has ended. Times are seconds since the epoch; `links` are spans of the same trace."""

    name: str
    trace_id: int
    span_id: int
    parent: int | None
    start: float
    end: float
    attributes: Mapping[str, Attribute]
    kind: Kind = "internal"
    links: tuple[int, ...] = ()
    error: str | None = None
    """Why it failed; None where it did not."""
    events: tuple[SpanEvent, ...] = field(default=())


def trace_of(run_id: str, traceparent: str | None) -> RunTrace:
    """The trace of a run; a `traceparent` that is none by the standard counts as not sent."""
    return parse_traceparent(traceparent) or RunTrace(_digest(f"trace/{run_id}", 16))


def parse_traceparent(text: str | None) -> RunTrace | None:
    """What a `traceparent` header says, None where it is not valid; a later version as far as it is known."""
    found = _TRACEPARENT.fullmatch(text or "")
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, parent = int(found[2], 16), int(found[3], 16)
    if not trace_id or not parent:
        return None
    return RunTrace(trace_id, parent, bool(int(found[4], 16) & 1))


def run_span(run_id: str) -> int:
    """The id of a run's span."""
    return _digest(run_id, 8)


def group_span(run_id: str, group: str) -> int:
    """The id of a group's span."""
    return _digest(f"{run_id}/{group}", 8)


def task_span(run_id: str, group: str, task: str) -> int:
    """The id of a task's span."""
    return _digest(f"{run_id}/{group}/{task}", 8)


def member_span(run_id: str, group: str, task: str, index: int, attempt: int) -> int:
    """The id of the span of one attempt (from 1) of a member; an ordinary task's one member has index 0."""
    return _digest(f"{run_id}/{group}/{task}/{index}/{attempt}", 8)


def every(total: int) -> int:
    """The members of a task whose index this divides are sampled: all of few, an even share of many."""
    return max(1, -(-total // MEMBERS))


def _digest(text: str, size: int) -> int:
    """Never 0, which stands for no id. Names have no `/`, so two places never have one text."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:size]) or 1
