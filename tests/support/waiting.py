"""Polling for a condition with a deadline, for conditions without a notification."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

_FIRST_POLL = 0.001
_LONGEST_POLL = 0.05


async def eventually(
    predicate: Callable[[], object], timeout: float = 20.0, because: str = "the condition never held"
) -> None:
    """Return once `predicate()` is true; raises AssertionError with `because` after `timeout` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    pause = _FIRST_POLL
    while not predicate():
        if loop.time() > deadline:
            raise AssertionError(f"{because} (waited {timeout:g} s)")
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_POLL)


async def eventually_true(
    ask: Callable[[], Awaitable[object]], timeout: float = 20.0, because: str = "the condition never held"
) -> None:
    """The same for a condition that has to be awaited, such as a query over HTTP."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    pause = _FIRST_POLL
    while not await ask():
        if loop.time() > deadline:
            raise AssertionError(f"{because} (waited {timeout:g} s)")
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_POLL)


async def turns(count: int = 5) -> None:
    """Let the event loop run `count` turns, so that everything scheduled by then has happened."""
    for _ in range(count):
        await asyncio.sleep(0)
