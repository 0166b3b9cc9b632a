"""The order in which attempts of members failed and started again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import MemberRetry, Spans


def in_order(
    retried: Iterable[MemberRetry], restarted: Iterable[tuple[int, int, float]]
) -> list[MemberRetry | tuple[int, int, float]]:
    """Failed attempts and starts of the next ones, so that each member's come as they happened."""
    changes: list[MemberRetry | tuple[int, int, float]] = [*retried, *restarted]
    return sorted(changes, key=_place_in_time)


def _place_in_time(change: MemberRetry | tuple[int, int, float]) -> tuple[int, int, bool]:
    if isinstance(change, MemberRetry):
        return change.index, change.attempt, True
    return change[0], change[1], False


def by_attempt(spans: Spans, attempts: Mapping[int, int]) -> list[tuple[int, Spans]]:
    """Spans parted by the number of the attempt (from 1), for the few members that had more than one."""
    if not spans:
        return []
    odd = [index for index in attempts if any(start <= index < stop for start, stop in spans)]
    rest = Ranges(spans).difference(Ranges((index, index + 1) for index in odd))
    parted: list[tuple[int, Spans]] = [(attempts[index] + 1, ((index, index + 1),)) for index in odd]
    return ([(1, tuple(rest))] if rest else []) + parted
