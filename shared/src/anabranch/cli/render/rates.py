"""How many members end in a second, over the last few seconds: what a live view shows, and an estimate of the
rest. Pure: the time of each look is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

WINDOW_SECONDS = 5.0
POLL_SECONDS = 0.25
"""Looks that are closer together replace each other, so a rate keeps a few dozen of them."""


class Rate:
    """The rate of one counter."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def look(self, now: float, done: int) -> None:
        """Tell how far the counter is, in seconds of any clock that only rises."""
        looks = self._looks
        if len(looks) > 1 and now - looks[-2][0] < POLL_SECONDS:
            looks.pop()
        looks.append((now, done))
        while len(looks) > 2 and looks[1][0] <= now - WINDOW_SECONDS:
            looks.popleft()

    @property
    def per_second(self) -> float | None:
        """None where it is not known yet."""
        if len(self._looks) < 2:
            return None
        (since, before), (now, done) = self._looks[0], self._looks[-1]
        return (done - before) / (now - since) if now > since else None

    def remaining(self, left: int) -> float | None:
        """Seconds that `left` more would take; None where nobody can say."""
        rate = self.per_second
        return left / rate if rate else None


class RateMeter:
    """A rate for each of some counters."""

    def __init__(self) -> None:
        self._rates: dict[Hashable, Rate] = {}

    def look(self, of: Hashable, now: float, done: int) -> Rate:
        """Tell how far one counter is; returns its rate."""
        rate = self._rates.setdefault(of, Rate())
        rate.look(now, done)
        return rate
