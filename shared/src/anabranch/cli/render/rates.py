"""Rate of a counter over a sliding window, and an estimate of the remaining time. Pure: callers pass the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

WINDOW_SECONDS = 5.0
SAMPLE_SECONDS = 0.25
"""Minimum distance of two samples. A closer one replaces the previous, so that a window holds about 20 samples."""


class Rate:
    """The rate of one counter."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add_sample(self, now: float, done: int) -> None:
        """Add the counter's value at a time, in seconds of any monotonic clock."""
        samples = self._samples
        if len(samples) > 1 and now - samples[-2][0] < SAMPLE_SECONDS:
            samples.pop()
        samples.append((now, done))
        # The sample just before the window is kept, so that the rate covers the whole window.
        while len(samples) > 2 and samples[1][0] <= now - WINDOW_SECONDS:
            samples.popleft()

    @property
    def per_second(self) -> float | None:
        """Increase per second over the window; None with fewer than two samples."""
        if len(self._samples) < 2:
            return None
        (since, before), (now, done) = self._samples[0], self._samples[-1]
        return (done - before) / (now - since) if now > since else None

    def remaining(self, left: int) -> float | None:
        """Estimated seconds for `left` more; None if the rate is not known or zero."""
        rate = self.per_second
        return left / rate if rate else None


class RateMeter:
    """Rates of several counters, by key."""

    def __init__(self) -> None:
        self._rates: dict[Hashable, Rate] = {}

    def add_sample(self, key: Hashable, now: float, done: int) -> Rate:
        """Add a counter's value at a time; returns its rate."""
        rate = self._rates.setdefault(key, Rate())
        rate.add_sample(now, done)
        return rate
