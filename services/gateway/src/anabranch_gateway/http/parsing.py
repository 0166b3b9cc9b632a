"""Parses and validates bodies in a few threads, so that the event loop goes on serving other requests.

A request of 200 bytes can make the gateway count a million members, so no body is small enough for the loop.
Waiting bodies are bounded in number and time; further requests get 503 `busy`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from anabranch_gateway.http.problems import Refusal

P = ParamSpec("P")
T = TypeVar("T")

LARGE = 64_000
"""Maximum bytes of a small body. Larger bodies wait in a queue of their own, so small ones do not wait for
them."""
SMALL_THREADS, LARGE_THREADS = 4, 2
MAX_WAITING = 500
PATIENCE = 10.0
"""Seconds that a body waits for a thread."""
ROOM = 16_000_000
"""Maximum bytes of all bodies in memory; parsed objects take up to 27 times the bytes of a body (`[],`)."""
FREE = 4_000
"""Bytes of each body that do not count against the limit, so small bodies are read even if large ones fill it."""


def busy(what: str) -> Refusal:
    """The response to a request while too many bodies are in work."""
    return Refusal(503, "busy", f"{what}: try again in a moment", headers={"retry-after": "2"})


class Lane:
    """Threads for small or for large bodies, with a bounded queue.

    Args:
        threads: number of bodies in work at once.
        most_waiting: number of bodies that may wait.
        patience: seconds that each waits.
    """

    def __init__(
        self, name: str, threads: int, most_waiting: int = MAX_WAITING, patience: float = PATIENCE
    ) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = asyncio.Semaphore(threads)
        self._most_waiting = most_waiting
        self._patience = patience
        self.waiting = 0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a thread and return its result.

        Raises:
            Refusal: 503, no thread was free in time.
        """
        await self._enter()
        loop = asyncio.get_running_loop()
        future = self._executor.submit(work, *args, **kwargs)
        # The thread releases its slot, not the caller: a cancelled caller leaves the thread at work.
        future.add_done_callback(lambda _: self._leave(loop))
        return await asyncio.wrap_future(future)

    async def _enter(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        if self.waiting >= self._most_waiting:
            raise busy("too many bodies are waiting to be parsed")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise busy(f"the body was not parsed within {self._patience:g} s") from None
        finally:
            self.waiting -= 1

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs in the thread. After the loop is closed no caller waits for the result."""
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._free.release)

    def close(self) -> None:
        """End the threads after their current work; waiting work is not started."""
        self._executor.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class BodyBudget:
    """Budget for the bytes of all bodies in memory."""

    total: int = ROOM
    taken: int = 0

    def take(self, size: int) -> None:
        """Reserve bytes. Raises Refusal 503 if the budget is exhausted."""
        if self.taken + size > self.total:
            raise busy("the bodies in the gateway's memory have reached their limit")
        self.taken += size


@dataclass(slots=True)
class Share:
    """One body's reservation: all of its bytes but the first few kB."""

    room: BodyBudget
    size: int = 0
    taken: int = 0

    def grow(self, size: int) -> None:
        """Extend the reservation. Raises Refusal 503 if the budget is exhausted."""
        self.size += size
        more = max(0, self.size - FREE) - self.taken
        self.room.take(more)
        self.taken += more


@dataclass(slots=True)
class ParsingPool:
    """The thread lanes and the memory budget of a gateway."""

    small: Lane = field(default_factory=lambda: Lane("small-bodies", SMALL_THREADS))
    large: Lane = field(default_factory=lambda: Lane("large-bodies", LARGE_THREADS))
    room: BodyBudget = field(default_factory=BodyBudget)

    def lane(self, size: int) -> Lane:
        """The lane for a body of this size in bytes."""
        return self.large if size > LARGE else self.small

    @contextlib.asynccontextmanager
    async def share(self) -> AsyncIterator[Share]:
        """Reserve memory for one body, until the caller has released it and the objects made from it."""
        share = Share(self.room)
        try:
            yield share
        finally:
            self.room.taken -= share.taken

    def close(self) -> None:
        self.small.close()
        self.large.close()
