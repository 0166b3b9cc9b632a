"""Lets few work at once where each holds much meanwhile, and never lets one wait for ever.

It knows nothing of what is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ReplaySemaphore:
    """So many places. Who waits for one longer than `patience` seconds goes on without: whoever has a place may be
    waiting for what that one is to do."""

    def __init__(self, count: int, patience: float = 2.0) -> None:
        self._free = asyncio.Semaphore(count)
        self._patience = patience

    @asynccontextmanager
    async def slot(self, *, needed: bool = True) -> AsyncIterator[None]:
        """Hold a place, in the order of asking. Where none is needed it does nothing, and does not wait."""
        is_held = needed and await self._taken()
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
