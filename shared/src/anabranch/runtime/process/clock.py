"""The machine's clock as `ports.Clock`. No other module reads the real time."""

from __future__ import annotations

import time


class SystemClock:
    """See `ports.Clock`."""

    # The functions themselves, which saves a call: workers read the time after each member.
    now = staticmethod(time.time)  # noqa: TID251 - this is the port's real side
    monotonic = staticmethod(time.monotonic)  # noqa: TID251 - this is the port's real side
