"""Handles Ctrl-C: the first interrupt asks a command to end, the second one forces it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
