"""Shares the event loop among the chunks of one worker whose members never wait.

Such a chunk keeps the loop for a slice of time, then lets others continue. By default all of them run in each
iteration of the loop, one slice each: what they report comes in large batches, which is cheap. But whatever else
the process does, such as the decisions about a small run and its reports, takes several iterations. So for a while
after a small task was offered, only one of them runs in each iteration.
"""

from __future__ import annotations

import asyncio
from collections import deque

from anabranch.ports import Clock

TURNS_SECONDS = 0.25
"""How long runners take turns after a small task was offered."""


class LoopShare:
    """Grants the loop to runners of chunks; the runs that wait for a turn are served one after another."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turns_until = 0.0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._between = 0
        self._is_scheduled = False

    @property
    def is_in_use(self) -> bool:
        """True if members run that never wait: their runners release a slot to another run within a slice."""
        return self._between > 0

    def is_waiting(self, run_id: str) -> bool:
        """True if a runner of a run waits for its turn."""
        return run_id in self._waiting

    def take_turns(self) -> None:
        """From now on, for TURNS_SECONDS, grant one turn in each iteration of the loop."""
        self._turns_until = self._clock.monotonic() + TURNS_SECONDS

    async def turn(self, run_id: str) -> None:
        """Let the loop continue with others; returns when the runner may run its next slice."""
        self._between += 1
        try:
            if self._clock.monotonic() < self._turns_until:
                await self._queued(run_id)
            else:
                await asyncio.sleep(0)
        finally:
            self._between -= 1

    async def _queued(self, run_id: str) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.setdefault(run_id, deque()).append(future)
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._grant, loop)
        await future

    def _grant(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake the runner that is next; all of them once turns are no longer taken."""
        is_last = self._clock.monotonic() >= self._turns_until
        while self._waiting:
            # If further runners of the run wait, the run goes to the end of the dict.
            run_id = next(iter(self._waiting))
            queue = self._waiting.pop(run_id)
            future = queue.popleft()
            if queue:
                self._waiting[run_id] = queue
            if future.done():  # its runner was cancelled
                continue
            future.set_result(None)
            if not is_last:
                break
        self._is_scheduled = bool(self._waiting)
        if self._is_scheduled:
            loop.call_soon(self._grant, loop)
