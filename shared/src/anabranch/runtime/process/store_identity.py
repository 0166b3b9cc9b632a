"""Detects that the store restarted or failed over, after which it may lack writes.

The owners restore lost data. Until they have, a missing key does not prove that its value is gone. This module
only reads the store's identity; its callers decide what a missing key means.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from anabranch.ports import Clock, StateStore

RESTORE_SECONDS = 30.0
"""Time in which owners notice a restart or failover of the store and restore the data it lost."""


class StoreIdentityTracker:
    """Tracks the identity of the store; one instance for each process.

    Args:
        is_up_to_date: returns True if the owners have restored all data that the store lost.
    """

    def __init__(
        self, store: StateStore, clock: Clock, is_up_to_date: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._is_up_to_date = is_up_to_date
        self._identity: str | None = None
        self._changed_at: float | None = None
        self._known_since = 0.0

    async def age(self) -> float:
        """Seconds since a change of the store's identity was noticed; infinite if it has not changed.

        Raises:
            ServerUnavailable: the store does not respond.
        """
        identity = await self._store.identity()
        if self._identity is None:
            self._known_since = self._clock.monotonic()
        elif identity != self._identity:
            self._changed_at = self._clock.monotonic()
        self._identity = identity
        return self.noticed_age()

    def noticed_age(self) -> float:
        """As `age`, but of the change that was noticed last, without a query."""
        return float("inf") if self._changed_at is None else self._clock.monotonic() - self._changed_at

    async def is_restored(self) -> bool:
        """True if keys that are missing in the store will not be restored. Raises ServerUnavailable."""
        # A process that started recently cannot know whether the store restarted just before.
        age = min(await self.age(), self._clock.monotonic() - self._known_since)
        if age <= RESTORE_SECONDS:
            return False
        return self._is_up_to_date is None or await self._is_up_to_date()
