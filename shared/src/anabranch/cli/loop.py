"""Runs a command's coroutine, and lets the first interrupt ask for an end before the second one forces it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own, on uvloop where there is one."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(work)


@contextmanager
def on_interrupt(first: Callable[[], None], second: Callable[[], None]) -> Iterator[None]:
    """Call `first` at the first SIGINT or SIGTERM and `second` at each further one."""
    loop = asyncio.get_running_loop()
    calls = [first]

    def interrupted() -> None:
        (calls.pop() if calls else second)()

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, interrupted)
    try:
        yield
    finally:
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return asyncio.new_event_loop
    return uvloop.new_event_loop
