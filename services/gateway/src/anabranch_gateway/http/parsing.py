"""Parses and validates bodies in a few threads, so that the event loop keeps serving other requests.

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

SMALL_BODY_BYTES = 64_000
"""Maximum bytes of a small body. Larger bodies wait in a queue of their own, so small ones do not wait for
them."""
SMALL_THREADS, LARGE_THREADS = 4, 2
MAX_WAITING = 500
WAIT_SECONDS = 10.0
"""Seconds that a body waits for a thread."""
MAX_BODIES_BYTES = 16_000_000
"""Maximum bytes of all bodies in memory; parsed objects take up to 27 times the bytes of a body (`[],`)."""
FREE_BYTES = 4_000
"""Bytes of each body that do not count against the limit: small bodies are read even if large ones use it up."""


def busy(what: str) -> Refusal:
    """The refusal of a request while too many bodies are being parsed."""
    return Refusal(503, "busy", f"{what}: try again in a moment", headers={"retry-after": "2"})


class ParsingLane:
    """Threads for small or for large bodies, with a bounded queue.

    Args:
        threads: maximum bodies that are parsed at once.
        max_waiting: maximum bodies that wait for a thread.
        wait_seconds: how long a body waits before its request gets 503.
    """

    def __init__(
        self, name: str, threads: int, max_waiting: int = MAX_WAITING, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = asyncio.Semaphore(threads)
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
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
        # A free slot is taken at once: `locked` and `acquire` run without a switch to another task.
        if not self._free.locked():
            await self._free.acquire()
            return
        if self.waiting >= self._max_waiting:
            raise busy("too many bodies are waiting to be parsed")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise busy(f"the body was not parsed within {self._wait_seconds:g} s") from None
        finally:
            self.waiting -= 1

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """Release the slot. Runs in the thread; after the loop was closed no caller waits for the result."""
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._free.release)

    def close(self) -> None:
        """End the threads after their current work; waiting work is not started."""
        self._executor.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class BodyBudget:
    """Budget for the bytes of all bodies in memory."""

    total: int = MAX_BODIES_BYTES
    reserved: int = 0

    def reserve(self, size: int) -> None:
        """Reserve bytes. Raises Refusal 503 if the budget is exhausted."""
        if self.reserved + size > self.total:
            raise busy("the bodies in the gateway's memory have reached their limit")
        self.reserved += size


@dataclass(slots=True)
class BodyReservation:
    """One body's reservation: all of its bytes but the first few kB."""

    budget: BodyBudget
    size: int = 0
    reserved: int = 0

    def grow(self, size: int) -> None:
        """Extend the reservation. Raises Refusal 503 if the budget is exhausted."""
        self.size += size
        more = max(0, self.size - FREE_BYTES) - self.reserved
        self.budget.reserve(more)
        self.reserved += more


@dataclass(slots=True)
class ParsingPool:
    """The thread lanes and the memory budget of a gateway."""

    small: ParsingLane = field(default_factory=lambda: ParsingLane("small-bodies", SMALL_THREADS))
    large: ParsingLane = field(default_factory=lambda: ParsingLane("large-bodies", LARGE_THREADS))
    budget: BodyBudget = field(default_factory=BodyBudget)

    def lane(self, size: int) -> ParsingLane:
        """The lane for a body of this size in bytes."""
        return self.large if size > SMALL_BODY_BYTES else self.small

    @contextlib.asynccontextmanager
    async def reservation(self) -> AsyncIterator[BodyReservation]:
        """Reserve memory for one body, until the caller has released it and the objects made from it."""
        reservation = BodyReservation(self.budget)
        try:
            yield reservation
        finally:
            self.budget.reserved -= reservation.reserved

    def close(self) -> None:
        self.small.close()
        self.large.close()
