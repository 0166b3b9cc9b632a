"""Estimates the broker's time in this process. Deadlines are in broker time, so that owners with different clocks
agree.

Records of the topics with deadlines have the broker's timestamp. A partition owner compares the timestamp of its
claim with its own clock at publication and at acknowledgement. The broker stored the claim between the two, which
may be far apart after an outage. The smallest clock skew that is consistent with both is used in the whole
process.
"""

from __future__ import annotations

import logging

from anabranch.ports import Clock

SKEW_SECONDS = 60.0
"""A larger skew is reported, because it also breaks TLS and makes the log lines of several machines
incomparable."""

log = logging.getLogger(__name__)


class LogClock:
    """See `ports.Clock`. `now` is the broker's time after the first `observe`, until then the time of `clock`.

    The estimate advances with the monotonic clock, so that setting the machine's clock does not shift it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._origin: float | None = None
        """The broker's time when the monotonic clock was at 0."""

    def now(self) -> float:
        """Seconds since the epoch, by the broker's clock."""
        return self._clock.now() if self._origin is None else self._origin + self._clock.monotonic()

    @property
    def _skew(self) -> float:
        return self.now() - self._clock.now()

    def monotonic(self) -> float:
        """Seconds of a clock that never goes backwards, for durations."""
        return self._clock.monotonic()

    def machine_now(self) -> float:
        """Seconds since the epoch, by this machine's clock."""
        return self._clock.now()

    def local(self, at: float) -> float:
        """Convert a broker time to this machine's clock."""
        return at - self.now() + self._clock.now()

    def observe(self, timestamp: float, published_at: float, acknowledged_at: float) -> None:
        """Update the skew from the broker's timestamp of a record that this process published.

        `published_at` and `acknowledged_at` are times of this machine's clock. The skew is 0 if topics have
        producer timestamps.
        """
        was_large = self.finding is not None
        # The nearest point of the interval: within it, the timestamp is consistent with a skew of 0.
        skew = timestamp - min(max(timestamp, published_at), acknowledged_at)
        self._origin = self._clock.now() + skew - self._clock.monotonic()
        if not was_large and self.finding is not None:
            log.warning(
                "%s; deadlines are not affected, they use the broker's time: correct the clock of this machine",
                self.finding,
            )

    @property
    def finding(self) -> str | None:
        """The skew as health reports it; None if it is at most SKEW_SECONDS."""
        if abs(self._skew) <= SKEW_SECONDS:
            return None
        side = "behind" if self._skew > 0 else "ahead of"
        return f"the clock is {abs(self._skew):.0f} s {side} the broker's"
