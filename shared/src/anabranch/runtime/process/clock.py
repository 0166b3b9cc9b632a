"""The machine's clock behind the Clock port. The only place that reads real time; it decides nothing."""

from __future__ import annotations

import time


class SystemClock:
    """See `ports.Clock`."""

    # The functions themselves, without a wrapper call: workers read the time after each member.
    now = staticmethod(time.time)  # noqa: TID251 - this is the port's real side
    monotonic = staticmethod(time.monotonic)  # noqa: TID251 - this is the port's real side
