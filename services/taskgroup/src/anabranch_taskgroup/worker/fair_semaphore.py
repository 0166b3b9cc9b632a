"""Shares the slots of one worker fairly: the run that has the fewest slots gets the next one.

Served in the order of arrival, a run with one quick task would wait for all members of a wide run before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType

from anabranch.sdk.agents import AgentDeclaration


class FairSemaphore:
    """A semaphore with `count` slots, which serves the holder with the fewest slots first.

    A holder is the id of a run, of which many members may have a slot or wait for one. Invariant: while a slot is
    free, no member waits.
    """

    def __init__(self, count: int) -> None:
        self.free = count
        """The number of free slots."""
        self._held: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def one(self, holder: str) -> AsyncIterator[None]:
        """Hold a slot, once there is one."""
        await self._acquire(holder)
        try:
            yield
        finally:
            self.release(holder)

    def take(self, holder: str) -> None:
        """Take a slot; the caller has checked that one is free. `release` returns it."""
        self.free -= 1
        self._held[holder] = self._held.get(holder, 0) + 1

    def should_yield(self, holder: str) -> bool:
        """True if `holder` should release a slot between two of its members, because another one waits for it."""
        waiting = self._waiting
        if not waiting or (len(waiting) == 1 and holder in waiting):
            return False
        # Another one is worth it if it has no slot, or at least two fewer. With one fewer the two would only
        # change places, and change back with the next member.
        mine = self._held[holder]
        others = (self._held.get(other, 0) for other in waiting if other != holder)
        return any(taken == 0 or taken + 1 < mine for taken in others)

    async def _acquire(self, holder: str) -> None:
        if self.free:
            self.take(holder)
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(holder, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._withdraw(holder, future)
            else:  # it got a slot in the same turn of the loop in which it was cancelled
                self.release(holder)
            raise

    def _withdraw(self, holder: str, future: asyncio.Future[None]) -> None:
        queue = self._waiting.get(holder)
        if queue is not None and future in queue:
            queue.remove(future)
            if not queue:
                del self._waiting[holder]

    def release(self, holder: str) -> None:
        """Return a slot, or give it to the holder that waits with the fewest slots."""
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        while self._waiting:
            following = min(self._waiting, key=lambda each: self._held.get(each, 0))
            # `min` returns the first of equals. A holder whose members still wait goes to the end of the dict, so
            # holders with equally few slots are served in turn.
            queue = self._waiting.pop(following)
            future = queue.popleft()
            if queue:
                self._waiting[following] = queue
            if not future.done():
                self._held[following] = self._held.get(following, 0) + 1
                future.set_result(None)
                return
        self.free += 1


class WorkerSlots:
    """The slots of one worker, and those of each of its agents that has a limit of its own.

    Args:
        places: by kind of program: how many the worker runs at once. A program takes a place, and no slot.
    """

    def __init__(self, count: int, places: Mapping[str, int] = MappingProxyType({})) -> None:
        self.count = count
        self._all = FairSemaphore(count)
        self._only_all = [self._all]
        self._counts = places
        self._places = {kind: [FairSemaphore(number)] for kind, number in places.items()}
        self._of_agents: dict[str, FairSemaphore] = {}

    @property
    def free(self) -> int:
        """The number of the worker's free slots."""
        return self._all.free

    def of(self, agent: AgentDeclaration) -> Sequence[FairSemaphore]:
        """The semaphores that bound the calls of an agent, in the order in which they are acquired."""
        shared = self._only_all if agent.program is None else self._places.get(agent.executor, self._only_all)
        if agent.max_concurrency is None:
            return shared
        # The agent's own first: a member that waits for it must not keep a slot of the worker from other agents.
        return [self._of_agents.setdefault(agent.name, FairSemaphore(agent.max_concurrency)), *shared]

    def count_of(self, agent: AgentDeclaration) -> int:
        """The calls of an agent that may run at once: the slots of the worker, or the places of a program's
        engine. A limit of the agent's own is not in it."""
        return self.count if agent.program is None else self._counts.get(agent.executor, self.count)

    def has_free(self, agent: AgentDeclaration) -> bool:
        """True if a call of an agent could begin at once."""
        if agent.max_concurrency is None and agent.program is None:
            return self._all.free > 0
        return all(slots.free for slots in self.of(agent))

    def take(self, agent: AgentDeclaration, holder: str) -> None:
        """Take the slots that one call of an agent needs. They must be free, see `has_free`."""
        for slots in self.of(agent):
            slots.take(holder)

    def release(self, agent: AgentDeclaration, holder: str) -> None:
        """Return the slots of `take`."""
        for slots in self.of(agent):
            slots.release(holder)

    @asynccontextmanager
    async def one(self, agent: AgentDeclaration, holder: str) -> AsyncIterator[None]:
        """Hold the slots that one call of an agent needs."""
        async with AsyncExitStack() as stack:
            for slots in self.of(agent):
                await stack.enter_async_context(slots.one(holder))
            yield


def any_should_yield(semaphores: Sequence[FairSemaphore], holder: str) -> bool:
    """True if `holder` should release the slots that it has of several semaphores, because another needs one."""
    return any(each.should_yield(holder) for each in semaphores)
