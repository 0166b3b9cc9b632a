"""Runs two coroutines at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def side_by_side(first: Coroutine[Any, Any, Any], second: Coroutine[Any, Any, Any]) -> None:
    """Run both to their end. If one fails, the other is cancelled, and the error is raised once that has ended; an
    error of `second` is noticed when `first` has ended.

    `asyncio.gather` would start a task for each, and a future for both: it costs three times as much, and what it
    leaves behind after an error still runs beside the next attempt.
    """
    task = asyncio.create_task(second)
    try:
        await first
        await task
    except BaseException:
        task.cancel()
        await asyncio.wait((task,))
        raise
