"""Keeps suspects apart within one worker: several careful members at a time, or a single member alone."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SharedLock:
    """A lock that many callers share or one has to itself, like a lock for readers and a writer.

    It admits callers strictly in the order of arrival. A caller that wants it alone waits only for those before
    it, and is not overtaken by later ones that share it.
    """

    def __init__(self) -> None:
        self._holders = 0
        self._is_exclusive = False
        self._waiting: deque[tuple[bool, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Hold the lock together with others."""
        await self._enter(exclusive=False)
        try:
            yield
        finally:
            self._leave()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold the lock alone."""
        await self._enter(exclusive=True)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, *, exclusive: bool) -> None:
        entry = (exclusive, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._admit()
        try:
            await entry[1]
        except asyncio.CancelledError:
            self._withdraw(entry)
            raise

    def _withdraw(self, entry: tuple[bool, asyncio.Future[None]]) -> None:
        if entry in self._waiting:
            # Those behind it may be admitted now: it may have been the one that wanted the lock alone.
            self._waiting.remove(entry)
            self._admit()
        else:
            # It was admitted in the same turn of the loop in which it was cancelled, and holds the lock.
            self._leave()

    def _leave(self) -> None:
        self._holders -= 1
        self._is_exclusive = False
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._is_free_for(self._waiting[0][0]):
            self._is_exclusive, admitted = self._waiting.popleft()
            self._holders += 1
            if not admitted.done():  # a cancelled one holds the lock until `_withdraw` releases it
                admitted.set_result(None)

    def _is_free_for(self, exclusive: bool) -> bool:
        return self._holders == 0 if exclusive else not self._is_exclusive
