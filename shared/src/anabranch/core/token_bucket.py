"""A token bucket: admits a burst, then a steady rate. Pure: time is passed in."""

from __future__ import annotations

import math


class TokenBucket:
    """Admits `burst` calls at once, then `rate` calls a second. It starts full.

    Reading and taking are separate, so that a caller may ask several buckets before it takes a token of each.

    Args:
        burst: the most tokens that it holds, at least 1.
        rate: tokens that are added in a second.
    """

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._tokens = burst
        self._filled_at = -math.inf

    def has_token(self, now: float) -> bool:
        """Add the tokens since the last call and return whether there is one. `now` is monotonic seconds."""
        if self._tokens < self._burst:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return self._tokens >= 1

    def take(self) -> None:
        """Take one token; call it after `has_token` was true."""
        self._tokens -= 1
