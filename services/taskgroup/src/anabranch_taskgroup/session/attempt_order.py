"""The order in which attempts of members failed and started again. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from anabranch.core.wire.messages import MemberRetry


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
