"""Shares out what may run at once in one worker: whoever has the fewest slots is given the next one.

In the order of asking, a run of one quick task would wait for all that a wide one brought before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from anabranch.sdk.agents import AgentDeclaration


class FairSemaphore:
    """So many slots. Invariant: while one is free nobody waits.

    A holder is whoever shares: the id of a run, of which many members may hold or wait at once.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def free(self) -> int:
        """How many nobody holds."""
        return self._free

    @asynccontextmanager
    async def one(self, holder: str) -> AsyncIterator[None]:
        """Hold a slot."""
        await self._take(holder)
        try:
            yield
        finally:
            self._give(holder)

    def is_wanted(self, holder: str) -> bool:
        """Whether `holder` should let another have one of its slots, between two members: who waits has none, or
        at least two fewer. With one fewer the two would only change places."""
        waiting = self._waiting
        if not waiting or (len(waiting) == 1 and holder in waiting):
            return False
        mine = self._taken[holder]
        others = (self._taken.get(other, 0) for other in waiting if other != holder)
        return any(taken == 0 or taken + 1 < mine for taken in others)

    async def _take(self, holder: str) -> None:
        if self._free:
            self._free -= 1
            self._taken[holder] = self._taken.get(holder, 0) + 1
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(holder, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._withdraw(holder, future)
            else:
                self._give(holder)
            raise

    def _withdraw(self, holder: str, future: asyncio.Future[None]) -> None:
        queue = self._waiting.get(holder)
        if queue is not None and future in queue:
            queue.remove(future)
            if not queue:
                del self._waiting[holder]

    def _give(self, holder: str) -> None:
        self._taken[holder] -= 1
        if not self._taken[holder]:
            del self._taken[holder]
        while self._waiting:
            following = min(self._waiting, key=lambda each: self._taken.get(each, 0))
            queue = self._waiting.pop(following)
            future = queue.popleft()
            if queue:
                self._waiting[following] = queue  # behind those who have as few
            if not future.done():
                self._taken[following] = self._taken.get(following, 0) + 1
                future.set_result(None)
                return
        self._free += 1


class WorkerSlots:
    """The slots of one worker, and of each of its agents that has a bound, over all chunks."""

    def __init__(self, count: int) -> None:
        self._all = FairSemaphore(count)
        self._of_agents: dict[str, FairSemaphore] = {}

    @property
    def free(self) -> int:
        """How many of the worker's nobody holds."""
        return self._all.free

    def of(self, agent: AgentDeclaration) -> list[FairSemaphore]:
        """What bounds the calls of an agent: the agent's own slots first, for few wait there."""
        if agent.max_concurrency is None:
            return [self._all]
        return [self._of_agents.setdefault(agent.name, FairSemaphore(agent.max_concurrency)), self._all]

    @asynccontextmanager
    async def one(self, agent: AgentDeclaration, holder: str) -> AsyncIterator[None]:
        """Hold what one call of an agent needs."""
        async with AsyncExitStack() as stack:
            for slots in self.of(agent):
                await stack.enter_async_context(slots.one(holder))
            yield


def any_wanted(shared: Sequence[FairSemaphore], holder: str) -> bool:
    """Whether `holder` should let another have what it holds of several: a slot of a worker, and of an agent."""
    return any(slots.is_wanted(holder) for slots in shared)
