"""Semaphore for memory-heavy replays, without deadlock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ReplaySemaphore:
    """Limits concurrent replays to `count`.

    A caller that has waited for `patience` seconds continues without a slot. Otherwise two replays could deadlock:
    the holder of a slot may wait for a value that only the waiting partition's owner writes again.
    """

    def __init__(self, count: int, patience: float = 2.0) -> None:
        self._free = asyncio.Semaphore(count)
        self._patience = patience

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot, first come, first served."""
        is_held = await self._taken()
        try:
            yield
        finally:
            if is_held:
                self._free.release()

    async def _taken(self) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                return await self._free.acquire()
        except TimeoutError:
            return False
