"""An event loop with virtual time: if all tasks wait for timers, time jumps to the next timer.

Time stands still while a callback is ready. It passes at its real pace only while the loop waits for a thread (a
`def` agent) or a socket. The loop is independent of the system that runs on it.
"""

from __future__ import annotations

import asyncio
import hashlib
import selectors
from collections.abc import Callable
from time import monotonic  # noqa: TID251 - real time, while the loop waits for a thread or a socket
from typing import Any, TypeVar, TypeVarTuple
from uuid import UUID

from anabranch.runtime.process.loops import UnendingLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH = 1_767_225_600.0
"""Start of virtual time: 2026-01-01T00:00:00Z, in seconds since the epoch."""
RESOLUTION = 1e-6
"""Seconds by which a timer may be early."""


class VirtualLoop(UnendingLoop, asyncio.SelectorEventLoop):
    """An asyncio loop with virtual time, for `asyncio.Runner(loop_factory=VirtualLoop)` or direct use.

    An `asyncio.sleep(3600)` takes as long as the work that happens in this hour. Thread-safe like any asyncio
    loop: only `call_soon_threadsafe`.
    """

    def __init__(self) -> None:
        self._virtual = 0.0
        self._forced_until = 0.0
        self._busy_threads = 0
        super().__init__(_Jumping(self))
        # A timer is ready within this of its time. After half a year of virtual time, the nanosecond of a real
        # clock is below the precision of a float: a timer would never be ready.
        self._clock_resolution = RESOLUTION

    def time(self) -> float:
        """Virtual seconds since the loop was created."""
        return self._virtual

    def force_until(self, when: float) -> None:
        """Jump up to this time even if threads run: the caller does not need to wait for them."""
        self._forced_until = when

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """As in any loop. While the function runs, time passes at its real pace."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._busy_threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, future: asyncio.Future[Any]) -> None:
        self._busy_threads -= 1

    def may_jump(self, sockets: int) -> bool:
        """True if time may jump: no thread runs, and the loop watches no `sockets`."""
        return not sockets and (not self._busy_threads or self._virtual < self._forced_until)

    def elapse(self, seconds: float) -> None:
        """Let virtual time pass."""
        self._virtual += seconds


class _Jumping(selectors.DefaultSelector):
    """The loop's selector. Instead of waiting for its timeout, it advances virtual time by it.

    `select` is the only place where an asyncio loop waits, and its timeout is the time to the next timer. So the
    whole event loop gets virtual time by replacing one method.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return ready sockets, after at most `timeout` seconds of virtual time."""
        if timeout is None or timeout <= 0:
            return self._select(timeout)
        if not self._loop.may_jump(len(self.get_map()) - 1):  # one is the loop's own, which wakes it up
            return self._wait(timeout)
        # Sockets that are ready come before any timer.
        ready = self._select(0)
        if not ready:
            self._loop.elapse(timeout)
        return ready

    def _wait(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        began = monotonic()
        ready = self._select(timeout)
        # Not beyond the next timer, even if the thread or the system was late.
        self._loop.elapse(min(timeout, monotonic() - began))
        return ready

    def _select(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = super().select(timeout)
        return found


class VirtualClock:
    """See `ports.Clock`. The time of a loop, starting at `epoch` seconds since the epoch."""

    def __init__(self, loop: asyncio.AbstractEventLoop, epoch: float = EPOCH) -> None:
        self._loop = loop
        self._epoch = epoch

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._epoch + self._loop.time()

    def monotonic(self) -> float:
        """Seconds since the loop was created."""
        return self._loop.time()


class SeededIds:
    """See `ports.Ids`. The same seed gives the same sequence of ids."""

    def __init__(self, clock: VirtualClock, seed: int) -> None:
        self._clock = clock
        self._seed = seed
        self._count = 0

    def run_scoped(self) -> str:
        """A UUIDv7 with the virtual time."""
        value = int(self._clock.now() * 1000) << 80 | 0x7 << 76 | (self._count & 0xFFF) << 64
        value |= 0b10 << 62 | (self._draw() >> 66)
        return str(UUID(int=value))

    def incarnation(self) -> str:
        """Ten hexadecimal digits."""
        return f"{self._draw():032x}"[:10]

    def _draw(self) -> int:
        self._count += 1
        digest = hashlib.sha256(f"{self._seed}/{self._count}".encode()).digest()
        return int.from_bytes(digest[:16], "big")
