"""Makes one coroutine of each way to call an agent: on the loop, in a thread, within a span of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from inspect import isawaitable
from typing import Any

from anabranch.sdk.agents import AgentDeclaration
from anabranch.sdk.task import Task
from anabranch_taskgroup.worker.coroutine_host import Raised
from anabranch_taskgroup.worker.tracing import TaskTrace

Call = Callable[[Task], Any]


def call_of(agent: AgentDeclaration, threads: Executor) -> Call:
    """Returns what makes an awaitable of one call of an agent. Making it runs nothing of the agent."""
    handler = agent.handler
    return handler if agent.is_async else lambda task: _in_thread(threads, handler, task)


async def _in_thread(threads: Executor, handler: Callable[[Task], Any], task: Task) -> Any:
    """Call a `def` agent in a thread, and await what it returns if that can be awaited: a decorator's wrapper is a
    `def` around an `async def`.

    A thread cannot be interrupted: the first cancellation waits for it, as the task's `cancelled` says that it is
    to end; the second one leaves it alone.
    """
    run = copy_context().run  # the thread's log lines and spans know whose they are
    future = asyncio.get_running_loop().run_in_executor(threads, _outcome, run, handler, task)
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            if cancelled is not None:
                raise
            cancelled = error
    returned = future.result()
    if cancelled is not None:
        raise cancelled
    return await returned if not isinstance(returned, Raised) and isawaitable(returned) else returned


def _outcome(run: Callable[..., Any], handler: Callable[[Task], Any], task: Task) -> Any:
    """What a call in a thread came to. No future carries a `StopIteration`, nor a loop a `SystemExit`.

    If the agent called `os.fork`, its call also ends in the child process, which has only this one thread of the
    worker. The child exits here, with the code of its `SystemExit`.
    """
    process = os.getpid()
    outcome: Any
    try:
        outcome = run(handler, task)
    except BaseException as error:  # noqa: BLE001  # whatever an agent raises is its outcome
        outcome = Raised(error)
    if os.getpid() != process:
        os._exit(_exit_code(outcome))
    return outcome


def _exit_code(outcome: Any) -> int:
    if not isinstance(outcome, Raised):
        return 0
    code = getattr(outcome.error, "code", None) if isinstance(outcome.error, SystemExit) else 1
    return code if isinstance(code, int) else int(code is not None)


async def within_span(trace: TaskTrace, index: int, attempt: int, call: Call, task: Task) -> Any:
    """Call a sampled member's agent within its own span."""
    with trace.within(index, attempt):
        return await call(task)
