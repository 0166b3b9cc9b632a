"""The trace of a run: deterministic ids, sampled members, and spans as values. Pure.

A span's id is a hash of the names of its run, group, task and member. A span that is exported again after a crash
is therefore the same span, and any process can link to it without communication. The trace is the producer's if
its record had a `traceparent` (W3C Trace Context); otherwise its id is a hash of the run id.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

MEMBERS = 100
"""Approximate number of members of one task that are sampled."""
FAILURES = 100
"""Failed attempts of other members that one worker exports for one task."""
LINKS = 128
"""Maximum links of one span: the default limit of collectors."""

Attribute = str | bool | int | float
Kind = Literal["internal", "consumer"]

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class RunTrace:
    """The trace that a run belongs to. `parent` is the producer's span, None if the run starts the trace;
    `sampled` is the producer's decision, None if it made none."""

    trace_id: int
    parent: int | None = None
    sampled: bool | None = None


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """An event within a span, at `at` (seconds since the epoch)."""

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
    """Error message of a failed span; else None."""
    events: tuple[SpanEvent, ...] = field(default=())


@lru_cache(maxsize=1_024)  # read for each task of a run
def trace_of(run_id: str, traceparent: str | None) -> RunTrace:
    """The trace of a run; an invalid `traceparent` is ignored."""
    return parse_traceparent(traceparent) or RunTrace(_digest(f"trace/{run_id}", 16))


def parse_traceparent(text: str | None) -> RunTrace | None:
    """Parse a `traceparent` header; None if it is invalid. Of a later version the known fields are read."""
    found = _TRACEPARENT.fullmatch(text or "")
    # Version ff is invalid, and version 00 has no fields after the flags; those of a later version are ignored.
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


def task_span(run_id: str, group: str, task: str, iteration: Sequence[int] = ()) -> int:
    """The id of a task's span; of a task of a loop body, in one iteration."""
    return _digest(f"{run_id}/{group}/{task}{_in_iteration(iteration)}", 8)


def member_span(
    run_id: str, group: str, task: str, index: int, attempt: int, iteration: Sequence[int] = ()
) -> int:
    """The id of the span of one attempt (from 1) of a member; an ordinary task's one member has index 0."""
    return _digest(f"{run_id}/{group}/{task}{_in_iteration(iteration)}/{index}/{attempt}", 8)


def _in_iteration(iteration: Sequence[int]) -> str:
    return f"/#{'.'.join(map(str, iteration))}" if iteration else ""


def every(total: int) -> int:
    """The sampling interval of a task's members: those whose index it divides are sampled."""
    return max(1, -(-total // MEMBERS))


def _digest(text: str, size: int) -> int:
    """Hash a text to an id. Never 0, which means "no id" in W3C Trace Context. Names have no `/`, so texts are
    unique."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:size]) or 1
