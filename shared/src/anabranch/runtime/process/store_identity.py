"""Since when the store is the one it is: after a change what is missing there may still be written again.

Asks the store only; what follows from a change is the business of those who ask.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from anabranch.ports import Clock, StateStore

RESTORE_SECONDS = 30.0
"""How long owners may take to notice that the store is another one, and to write again what it lacks."""


class StoreLife:
    """One for each process. `is_up_to_date` says whether the owners have written again what the store lacked."""

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
        """Seconds since the store was seen to be another one; infinite where it always was the same.

        Raises:
            ServerUnavailable: the store cannot be asked.
        """
        identity = await self._store.identity()
        if self._identity is None:
            self._known_since = self._clock.monotonic()
        elif identity != self._identity:
            self._changed_at = self._clock.monotonic()
        self._identity = identity
        return float("inf") if self._changed_at is None else self._clock.monotonic() - self._changed_at

    async def is_restored(self) -> bool:
        """Whether what is missing in the store now is gone for good. Raises ServerUnavailable.

        A process that has not known the store for long cannot tell whether it came back older just before.
        """
        age = min(await self.age(), self._clock.monotonic() - self._known_since)
        if age <= RESTORE_SECONDS:
            return False
        return self._is_up_to_date is None or await self._is_up_to_date()
