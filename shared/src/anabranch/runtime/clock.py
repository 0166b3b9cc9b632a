"""The machine's clock behind the Clock port. The only place that reads real time; it decides nothing."""

from __future__ import annotations

import time


class SystemClock:
    """See `ports.Clock`."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()  # noqa: TID251 - this is the port's real side

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()  # noqa: TID251 - this is the port's real side
