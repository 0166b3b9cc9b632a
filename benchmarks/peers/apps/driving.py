"""Shared by the clients of all peers: warms up, measures one case, prints it. Independent of the libraries.

`python APP.py MEASURE SIZE COUNT` prints `ready`, waits for a line on standard input, and prints a JSON document:

- `{"seconds": 2.5, "durations": [0.3, ...]}`: of everything together, and of each operation, in seconds
- `{"ended": 499, "count": 500}`: not everything ended within the limit

If an operation fails or joins a wrong number of tasks, it prints a traceback on standard error and no document.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

LIMIT_SECONDS = float(os.environ.get("PEER_LIMIT_SECONDS", "60"))
WIDTH = 3
STAGES = 3
WARM = 20


class Late(Exception):
    """Not all operations ended within the limit."""

    def __init__(self, ended: int, count: int) -> None:
        self.ended = ended
        self.count = count


class WrongOutcome(Exception):
    """An operation joined a wrong number of tasks."""


@dataclass(frozen=True)
class Work:
    """An operation that returns the number of joined tasks, the expected number, and how often to run it."""

    operation: Callable[[], Any]
    expected: int
    count: int
    at_once: int = 1


Perform = Callable[[Work], list[float]]
"""Performs work; returns the seconds of each operation. Raises Late, WrongOutcome."""


def after(values: Sequence[int]) -> int:
    """Result of a task of a run: its stage, if it got the results of all tasks of the stage before."""
    return 1 + sum(values) // WIDTH


def total(values: Sequence[int]) -> int:
    """Number of tasks of a run, from the results of its last stage."""
    return sum(values)


def drive(
    perform: Perform, fan_out: Callable[[int], Any], run: Callable[[], Any], single: Callable[[], Any]
) -> None:
    """Measure the case of the command line: `fanout MEMBERS 1`, `runs AT_ONCE COUNT` or `single 1 COUNT`.

    Args:
        fan_out: starts this many no-op tasks; returns the number of their results.
        run: starts three groups of three tasks in a row; returns `total`.
        single: runs one task; returns 1.
    """
    sys.excepthook = _fail
    measure, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    warm, work = {
        "fanout": (Work(partial(fan_out, WARM), WARM, 1), Work(partial(fan_out, size), size, 1)),
        "runs": (Work(run, STAGES * WIDTH, size, size), Work(run, STAGES * WIDTH, count, size)),
        "single": (Work(single, 1, WARM), Work(single, 1, count)),
    }[measure]
    print(json.dumps(_measured(perform, warm, work)), flush=True)
    os._exit(0)  # threads may still wait for results that are lost


def _measured(perform: Perform, warm: Work, work: Work) -> dict[str, Any]:
    try:
        perform(warm)
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.perf_counter()
        durations = perform(work)
        return {"seconds": time.perf_counter() - began, "durations": durations}
    except Late as late:
        return {"ended": late.ended, "count": late.count}


def _fail(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print the error and end at once: threads may still wait for results that are lost."""
    sys.__excepthook__(kind, error, traceback)
    sys.stderr.flush()
    os._exit(1)


def in_threads(most: int) -> Perform:
    """Performs blocking operations in up to `most` threads, which stay: some clients connect once a thread."""
    pool = ThreadPoolExecutor(most)

    def timed(work: Work) -> float:
        began = time.perf_counter()
        got = work.operation()
        seconds = time.perf_counter() - began
        _check(got, work.expected)
        return seconds

    def perform(work: Work) -> list[float]:
        assert work.at_once <= most
        futures = [pool.submit(timed, work) for _ in range(work.count)]
        done, late = wait(futures, LIMIT_SECONDS, FIRST_EXCEPTION)
        durations = [future.result() for future in done]
        if late:
            raise Late(len(done), work.count)
        return durations

    return perform


def in_tasks(runner: asyncio.Runner) -> Perform:
    """Performs operations that return coroutines, as tasks of one event loop."""

    async def timed(work: Work, places: asyncio.Semaphore) -> float:
        async with places:
            began = time.perf_counter()
            got = await work.operation()
            seconds = time.perf_counter() - began
        _check(got, work.expected)
        return seconds

    async def all_of(work: Work) -> list[float]:
        places = asyncio.Semaphore(work.at_once)
        tasks = [asyncio.create_task(timed(work, places)) for _ in range(work.count)]
        done, late = await asyncio.wait(tasks, timeout=LIMIT_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        durations = [task.result() for task in done]
        if late:
            raise Late(len(done), work.count)
        return durations

    def perform(work: Work) -> list[float]:
        running: Coroutine[Any, Any, list[float]] = all_of(work)
        return runner.run(running)

    return perform


def at_once() -> int:
    """Number of operations at once in the case of the command line."""
    return int(sys.argv[2]) if sys.argv[1] == "runs" else 1


def _check(got: Any, expected: int) -> None:
    if got != expected:
        raise WrongOutcome(f"{got} of {expected} tasks were joined")
