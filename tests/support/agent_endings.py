"""Agents that end in every possible way, each with its description in the documentation.

`python -m agent_endings` runs each of them and prints the table of the docs.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from small_requests import alive, request, task

from anabranch import GiveUp, RetryLater, Task
from anabranch.testing import system

Agent = Callable[[Task], Any]
RELEASED = threading.Event()
"""Lets threads end that do not check `task.cancelled`."""


@dataclass(frozen=True, slots=True)
class Ending:
    """One way to end, in the words of the docs. `more` are additional fields of its task."""

    words: str
    agent: Agent
    more: Mapping[str, Any] = field(default_factory=dict)


class Custom(BaseException):
    """A base class of exceptions outside `Exception`."""


class NoText(Exception):
    """An exception whose `__str__` raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def raises(error: Callable[[], BaseException]) -> Agent:
    """An `async def` that raises."""

    async def agent(task: Task) -> None:
        raise error()

    return agent


def raises_group(*errors: Callable[[], BaseException]) -> Agent:
    """An `async def` that raises a group."""
    return raises(lambda: BaseExceptionGroup("g", [error() for error in errors]))


def plainly(error: Callable[[], BaseException]) -> Agent:
    """A `def` that raises."""

    def agent(task: Task) -> None:
        raise error()

    return agent


async def returns(task: Task) -> int:
    return 1


def returns_awaitable(task: Task) -> Any:
    return returns(task)


async def returns_bytes(task: Task) -> bytes:
    return b"no JSON"


def next_of_nothing(task: Task) -> Any:
    return next(iter([]))


async def awaits_what_is_cancelled(task: Task) -> None:
    other = asyncio.create_task(asyncio.sleep(10))
    await asyncio.sleep(0)
    other.cancel()
    await other


async def cancels_itself(task: Task) -> None:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    await asyncio.sleep(10)


async def exits() -> None:
    await asyncio.sleep(0.01)
    sys.exit(3)


async def awaits_a_task_that_exits(task: Task) -> None:
    await asyncio.create_task(exits())


_left: list[asyncio.Task[None]] = []


async def leaves_a_task_that_exits(task: Task) -> int:
    _left.append(asyncio.create_task(exits()))
    asyncio.get_running_loop().call_later(0.02, sys.exit, 4)
    return 1


def leaves_a_thread_that_exits(task: Task) -> int:
    thread = threading.Thread(target=sys.exit, args=(3,))
    thread.start()
    thread.join()
    return 1


async def fails_in_a_group(task: Task) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(raises(lambda: GiveUp("no such customer"))(task))


async def waits_for_ever(task: Task) -> None:
    await asyncio.sleep(1_000_000)


async def catches_cancellations(task: Task) -> None:
    while not RELEASED.is_set():
        try:
            await asyncio.sleep(1_000_000)
        except asyncio.CancelledError:
            continue


async def returns_after_its_timeout(task: Task) -> int:
    try:
        await asyncio.sleep(1_000_000)
    except asyncio.CancelledError:
        return 1
    return 2


def waits_for_the_flag(task: Task) -> None:
    while not task.cancelled:
        RELEASED.wait(0.001)


def never_looks(task: Task) -> None:
    RELEASED.wait()


LATER = 600.0
LATE: Mapping[str, Any] = {"timeout": 0.1}

ENDINGS: Sequence[Ending] = (
    Ending("returns a value", returns),
    Ending("is a `def` that returns an awaitable, as wrappers of decorators do", returns_awaitable),
    Ending("returns a value that is not JSON", returns_bytes),
    Ending("raises any `Exception`", raises(lambda: ValueError("x"))),
    Ending("raises `GiveUp`", raises(lambda: GiveUp("x"))),
    Ending("raises `RetryLater`", raises(lambda: RetryLater(LATER))),
    Ending("raises an exception whose `__str__` raises", raises(NoText)),
    Ending("raises a `BaseException` of its own", raises(Custom)),
    Ending("calls `sys.exit` in an `async def`", raises(lambda: SystemExit(3))),
    Ending("calls `sys.exit` in a `def`", plainly(lambda: SystemExit(3))),
    Ending("raises `KeyboardInterrupt` in an `async def`", raises(KeyboardInterrupt)),
    Ending("raises `KeyboardInterrupt` in a `def`", plainly(KeyboardInterrupt)),
    Ending("raises `GeneratorExit`", raises(GeneratorExit)),
    Ending("raises `StopAsyncIteration`", raises(StopAsyncIteration)),
    Ending("lets `StopIteration` out of a `def`", next_of_nothing),
    Ending("lets `StopIteration` out of an `async def`, where Python replaces it", raises(StopIteration)),
    Ending("awaits an operation that was cancelled, while its run was not", awaits_what_is_cancelled),
    Ending("cancels itself", cancels_itself),
    Ending("raises an exception group with `GiveUp` in it", fails_in_a_group),
    Ending(
        "raises an exception group with `RetryLater` in it",
        raises_group(lambda: RetryLater(LATER)),
    ),
    Ending("raises an exception group of one type", raises_group(lambda: KeyError(1), lambda: KeyError(2))),
    Ending(
        "raises an exception group of several types",
        raises_group(lambda: SystemExit(1), lambda: KeyError(2)),
    ),
    Ending("awaits a task of its own that calls `sys.exit`", awaits_a_task_that_exits),
    Ending("returns, and leaves a task and a timer that call `sys.exit`", leaves_a_task_that_exits),
    Ending("returns, and leaves a thread that calls `sys.exit`", leaves_a_thread_that_exits),
    Ending("is over its timeout and lets `CancelledError` through", waits_for_ever, LATE),
    Ending("is over its timeout and returns a value then", returns_after_its_timeout, LATE),
    Ending("is over its timeout and catches every `CancelledError`", catches_cancellations, LATE),
    Ending("is a `def` over its timeout that checks `task.cancelled`", waits_for_the_flag, LATE),
    Ending("is a `def` over its timeout that does not end", never_looks, LATE),
)

RETRY = {"strategy": "immediate", "max_attempts": 2}


@contextmanager
def released() -> Iterator[None]:
    """Releases threads of agents afterwards."""
    RELEASED.clear()
    try:
        yield
    finally:
        RELEASED.set()


def row_of(ending: Ending) -> str:
    """Runs an agent with a policy of two attempts; returns the row of the docs. The system survives it."""
    with released(), system(agents={"ends": ending.agent}) as s:
        result = s.run(request(task("out", "ends", retry=RETRY, **ending.more)))
        is_later = not ending.more and s.elapsed >= LATER
        s.advance(1)
        assert alive(s).run(request(task("after", inputs="fine"))).results == {"after": "fine"}
    if result.status == "completed":
        return f"| {ending.words} | completes | | |"
    [failure] = result.failures
    if failure["attempts"] == 1:
        tried = "no"
    else:
        tried = "after the time that it names" if is_later else "as the policy says"
    return f"| {ending.words} | fails | `{failure['error_type']}` | {tried} |"


def table(rows: Sequence[str]) -> str:
    """The table of the docs."""
    return "\n".join(["| the agent | its attempt | error type | retried |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    print(table([row_of(ending) for ending in ENDINGS]))
