"""Marks in the store by which it is known to have kept what it was given, one for each partition of a topic.

Whoever has brought the store up to date with a partition sets its mark. A store that begins again empty has
none, also where it looks the same otherwise; one that comes back a little older still has them. Reads and
writes the marks only; what follows from a missing one is the business of those who ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from anabranch.core.names import Names
from anabranch.ports import StateStore, Write

MARK_SECONDS = 30 * 86_400.0
RENEW_SECONDS = 3_600.0


class Marks:
    """The marks of one topic."""

    def __init__(self, store: StateStore, names: Names, topic: str) -> None:
        self._store = store
        self._names = names
        self._topic = topic
        self._renew_at = 0.0

    async def set(self, partitions: Sequence[int]) -> None:
        """Note that the store is up to date. Raises ServerUnavailable, StoreRefused."""
        await self._store.put([Write(self._key(number), b"1", MARK_SECONDS) for number in partitions])

    async def missing(self, partitions: Sequence[int]) -> list[int]:
        """The partitions whose mark is gone; the others' are made to last. Raises ServerUnavailable."""
        if not partitions:
            return []
        found = await self._store.get([self._key(number) for number in partitions])
        await self._renew([number for number, mark in zip(partitions, found, strict=True) if mark is not None])
        return [number for number, mark in zip(partitions, found, strict=True) if mark is None]

    async def _renew(self, partitions: Sequence[int]) -> None:
        now = asyncio.get_running_loop().time()
        if partitions and now >= self._renew_at:
            self._renew_at = now + RENEW_SECONDS
            await self._store.expire([self._key(number) for number in partitions], MARK_SECONDS)

    def _key(self, partition: int) -> str:
        return self._names.kept(self._topic, partition)
