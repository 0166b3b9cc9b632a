"""The outcomes and durations of several attempts at once. Pure.

A member is simulated by itself where there are few. Where there are many, a batch stands for members that run side
by side (`width`), or one after another in the same slots. The sizes of batches shrink with the members that are
left, as the product's chunks do, so the last members of a task are simulated one by one, and the end is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from anabranch.core.forecast.draws import SMALL, Draws
from anabranch.core.forecast.work import Attempts

LANES = 256
"""Slots that are filled one by one; of more, several are filled by one batch."""
MIN_FACTOR = 0.1
TAIL = 2
"""A batch has at most this fraction of the members that are left for a slot."""


class Batch(NamedTuple):
    """Attempts that end together.

    Attributes:
        width: slots that they hold.
        seconds: until they end.
        completed, failed: how many attempts.
    """

    width: int
    seconds: float
    completed: int
    failed: int

    @property
    def attempts(self) -> int:
        """The attempts, completed and failed."""
        return self.completed + self.failed


def at_once(attempts: Attempts, count: int, draws: Draws, strata: int = SMALL) -> Iterator[Batch]:
    """Attempts that all start now, each in its own slot; in about `strata` batches where there are more."""
    failed = draws.count(count, attempts.failure_rate)
    for seconds, number, is_failed in (
        (attempts.seconds, count - failed, False),
        (attempts.failed_seconds, failed, True),
    ):
        for width, unit in _strata(number, draws, strata):
            yield Batch(
                width, seconds.at(unit) * attempts.factor, 0 if is_failed else width, width if is_failed else 0
            )


def _strata(count: int, draws: Draws, strata: int) -> Iterator[tuple[int, float]]:
    """Numbers of members, each with the quantile of their duration."""
    if count <= strata:
        for _ in range(count):
            yield 1, draws.unit()
        return
    # The slowest of all decides when they have ended.
    yield 1, draws.unit() ** (1 / count)
    for number in range(strata):
        width = (count - 1) * (number + 1) // strata - (count - 1) * number // strata
        if width:
            yield width, (number + draws.unit()) / strata


def next_batch(attempts: Attempts, left: int, room: int, lanes: int, most: int, draws: Draws) -> Batch:
    """The next of more members than there is room for: they run one after another in a share of the slots.

    Args:
        lanes: members that run at once.
        most: starts that are allowed now.
    """
    width = min(room, max(1, lanes // LANES))
    depth = max(1, min(left // (TAIL * lanes), most // width))
    count = width * depth
    failed = draws.count(count, attempts.failure_rate)
    seconds = attempts.seconds.total(count - failed, draws) + attempts.failed_seconds.total(failed, draws)
    return Batch(width, seconds * attempts.factor / width, count - failed, failed)


def uncertain(attempts: Attempts, draws: Draws) -> Attempts:
    """The attempts with a failure rate and a mean duration as they may be in truth, after so few measurements."""
    if attempts.measured <= 0:
        return attempts
    rate, seconds = attempts.failure_rate, attempts.seconds
    deviation = math.sqrt(rate * (1 - rate) / attempts.measured)
    spread = seconds.deviation / math.sqrt(attempts.measured) / seconds.mean if seconds.mean > 0 else 0.0
    return replace(
        attempts,
        failure_rate=min(1.0, max(0.0, draws.normal(rate, deviation))),
        factor=max(MIN_FACTOR, draws.normal(1.0, spread)),
    )
