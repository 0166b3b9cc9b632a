"""The circuit breaker of one webhook endpoint: a failing endpoint gets one attempt (probe) at a time.

After several failures in a row the breaker opens. Attempts that come due wait for its open interval; then the
first of them is the probe, and the others share its outcome: they are made if it succeeds, and fail with its
reason if it fails. So every attempt ends in bounded time and holds no thread while it waits.
"""

from __future__ import annotations

import asyncio

from anabranch.ports import Clock

FAILURES_TO_OPEN = 5
OPEN_SECONDS = 15.0


class CircuitBreaker:
    """State of one endpoint.

    Each attempt awaits `admission`, and calls `succeeded` or `failed` after it was made.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._opened_at = 0.0
        self._probe: asyncio.Future[str | None] | None = None
        """While the breaker is open: the outcome of its next probe, None for a success or the error's text."""
        self._is_probing = False
        self.is_proven = False
        """True if the last attempt succeeded."""

    @property
    def is_open(self) -> bool:
        """True if only a probe may call the endpoint."""
        return self._probe is not None

    async def admission(self) -> str | None:
        """Wait until an attempt may be made. Returns the probe's error if the probe failed."""
        probe = self._probe
        if probe is None:
            return None
        left = self._opened_at + OPEN_SECONDS - self._clock.monotonic()
        if left > 0:
            await asyncio.wait({probe}, timeout=left)
        # The first attempt after the open interval becomes the probe; the others wait for its outcome. `shield`:
        # a cancelled attempt must not cancel the future that the other attempts await.
        if not probe.done() and not self._is_probing:
            self._is_probing = True
            return None
        return await asyncio.shield(probe)

    def succeeded(self) -> None:
        """An attempt got a 2xx response: close the breaker."""
        self._failures = 0
        self.is_proven = True
        self._end_probe(None)
        self._probe = None

    def failed(self, reason: str) -> None:
        """An attempt failed: open the breaker after several failures in a row, or again after a failed probe."""
        self._failures += 1
        self.is_proven = False
        if self.is_open and not self._is_probing:
            return  # the attempt started before the breaker opened, so it is not the probe
        if self._failures >= FAILURES_TO_OPEN:
            self._end_probe(reason)
            self._probe = asyncio.get_running_loop().create_future()
            self._opened_at = self._clock.monotonic()

    def _end_probe(self, reason: str | None) -> None:
        self._is_probing = False
        if self._probe is not None and not self._probe.done():
            self._probe.set_result(reason)
