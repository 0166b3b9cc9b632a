"""Types of the fixtures that create another client of the same server."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from anabranch.ports import EventLog, Notifier, StateStore

NewLog = Callable[[], Awaitable[EventLog]]
NewStore = Callable[[], Awaitable[StateStore]]
NewNotifier = Callable[[], Awaitable[Notifier]]


class WallClock:
    """The machine's own time."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()
