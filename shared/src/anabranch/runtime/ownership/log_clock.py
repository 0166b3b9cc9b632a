"""The log's time, as seen from this process: deadlines are points in the time of the broker, not of a machine.

Records of the topics in which time decides carry the broker's time. The owner of a partition compares the time of
its claim with its own clock when it published the claim and when that was acknowledged: the broker took it between
the two, which may be long apart where the broker was away. The least difference that explains its time holds for
the whole process.
"""

from __future__ import annotations

import logging

from anabranch.ports import Clock

SKEW_SECONDS = 60.0
"""Clocks that differ by more are reported: people compare logs of several machines, and TLS has clocks as well."""

log = logging.getLogger(__name__)


class LogClock:
    """See `ports.Clock`. `now` is the broker's time as far as it is known, else that of `clock`.

    Once known, it goes on by the monotonic clock: the machine's may be set meanwhile, as the finding asks for.
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
        """Seconds that never go back, for durations."""
        return self._clock.monotonic()

    def machine_now(self) -> float:
        """Seconds since the epoch, by this machine's clock."""
        return self._clock.now()

    def local(self, at: float) -> float:
        """A point in the broker's time by this machine's clock."""
        return at - self._skew

    def observe(self, timestamp: float, published_at: float, acknowledged_at: float) -> None:
        """Note the time that the broker gave to a record of this process, which published it at `published_at` and
        had the answer at `acknowledged_at` by its own clock. Where topics carry the producers' times, there is no
        difference."""
        was_large = self.finding is not None
        skew = timestamp - min(max(timestamp, published_at), acknowledged_at)
        self._origin = self._clock.now() + skew - self._clock.monotonic()
        if not was_large and self.finding is not None:
            log.warning("%s: set the clock of this machine; deadlines are kept in the broker's time", self.finding)

    @property
    def finding(self) -> str | None:
        """What health reports about the clock; None where it is right."""
        if abs(self._skew) <= SKEW_SECONDS:
            return None
        side = "behind" if self._skew > 0 else "ahead of"
        return f"the clock is {abs(self._skew):.0f} s {side} the broker's"
