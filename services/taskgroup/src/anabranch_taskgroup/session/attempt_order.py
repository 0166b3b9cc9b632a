"""Attempts of members: the order in which they failed and started again, and their numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import MemberRetry, Spans


def in_order(
    retried: Iterable[MemberRetry], restarted: Iterable[tuple[int, int, float]]
) -> list[MemberRetry | tuple[int, int, float]]:
    """Order failed attempts and starts of further ones by member, and those of one member by time."""
    changes: list[MemberRetry | tuple[int, int, float]] = [*retried, *restarted]
    return sorted(changes, key=_time_of)


def _time_of(change: MemberRetry | tuple[int, int, float]) -> tuple[int, int, bool]:
    if isinstance(change, MemberRetry):
        # The start of an attempt has the number of its failure, and comes before it.
        return change.index, change.attempt, True
    return change[0], change[1], False


def by_attempt(spans: Spans, attempts: Mapping[int, int]) -> list[tuple[int, Spans]]:
    """Split spans of members by their attempt, which counts from 1. `attempts` has the members with earlier
    ones."""
    if not spans:
        return []
    if not attempts and len(spans) == 1:
        return [(1, spans)]
    odd = [index for index in attempts if any(start <= index < stop for start, stop in spans)]
    rest = Ranges(spans).difference(Ranges((index, index + 1) for index in odd))
    parted: list[tuple[int, Spans]] = [(attempts[index] + 1, ((index, index + 1),)) for index in odd]
    return ([(1, tuple(rest))] if rest else []) + parted
