"""Where bodies are parsed and judged: in threads, a few at once, so that the loop goes on serving everybody else.

A request of 200 bytes can ask for a million members to be counted, so that no body is small enough for the loop.
What waits is bounded in number and time: who comes beyond that is told to come again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from anabranch_gateway.problems import Refusal

P = ParamSpec("P")
T = TypeVar("T")

LARGE = 64_000
"""Bytes. Beyond, a body waits with the large ones: those of everybody else do not wait for it."""
SMALL_THREADS, LARGE_THREADS = 4, 2
MOST_WAITING = 500
PATIENCE = 10.0
"""Seconds that a body waits for a thread."""
ROOM = 16_000_000
"""Bytes of bodies that are held at once; each becomes up to 27 bytes of objects for one of its own (`[],`)."""
FREE = 4_000
"""Bytes of a body that take no room: a small one is read however much the large ones hold."""


def busy(what: str) -> Refusal:
    """The answer to who comes while too much is in work."""
    return Refusal(503, "busy", f"{what}: try again in a moment", headers={"retry-after": "2"})


class Lane:
    """Threads for one kind of bodies, and who waits for them.

    Args:
        threads: how many bodies are in work at once.
        most_waiting: how many wait beside them.
        patience: seconds that each waits.
    """

    def __init__(
        self, name: str, threads: int, most_waiting: int = MOST_WAITING, patience: float = PATIENCE
    ) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = asyncio.Semaphore(threads)
        self._most_waiting = most_waiting
        self._patience = patience
        self.waiting = 0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns, in a thread.

        Raises:
            Refusal: 503, there was no thread for it in time.
        """
        await self._enter()
        loop = asyncio.get_running_loop()
        future = self._executor.submit(work, *args, **kwargs)
        # The thread gives its place back, not the caller: one that is cancelled leaves the thread at work.
        future.add_done_callback(lambda _: self._leave(loop))
        return await asyncio.wrap_future(future)

    async def _enter(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        if self.waiting >= self._most_waiting:
            raise busy("too many bodies wait to be read")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise busy(f"the body was not read within {self._patience:g} s") from None
        finally:
            self.waiting -= 1

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the thread. A loop that is closed has nobody who waits."""
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._free.release)

    def close(self) -> None:
        """End the threads once they have nothing to do; what waits is not begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class Room:
    """Bytes of bodies that are held at once, of all callers together."""

    total: int = ROOM
    taken: int = 0

    def take(self, size: int) -> None:
        """Raises Refusal 503 where there is no room for so many."""
        if self.taken + size > self.total:
            raise busy("the gateway holds as many bodies as it has room for")
        self.taken += size


@dataclass(slots=True)
class Share:
    """What one body takes of the room: all but its first bytes."""

    room: Room
    size: int = 0
    taken: int = 0

    def grow(self, size: int) -> None:
        """Raises Refusal 503 where there is no room for it."""
        self.size += size
        more = max(0, self.size - FREE) - self.taken
        self.room.take(more)
        self.taken += more


@dataclass(slots=True)
class Parsing:
    """The lanes and the room of a gateway."""

    small: Lane = field(default_factory=lambda: Lane("small-bodies", SMALL_THREADS))
    large: Lane = field(default_factory=lambda: Lane("large-bodies", LARGE_THREADS))
    room: Room = field(default_factory=Room)

    def lane(self, size: int) -> Lane:
        """The lane of a body of so many bytes."""
        return self.large if size > LARGE else self.small

    @contextlib.asynccontextmanager
    async def share(self) -> AsyncIterator[Share]:
        """Room for one body, until the caller holds neither it nor what was made of it."""
        share = Share(self.room)
        try:
            yield share
        finally:
            self.room.taken -= share.taken

    def close(self) -> None:
        self.small.close()
        self.large.close()
