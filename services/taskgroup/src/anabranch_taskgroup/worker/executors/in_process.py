"""Executes members in the worker's process: `async def` agents on its loop, `def` agents in threads."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from typing import Any

from anabranch.sdk.agents import AgentDeclaration
from anabranch.sdk.task import Task
from anabranch_taskgroup.worker.executors.coroutine_host import CoroutineHost, Raised

GRACE_SECONDS = 3.0
"""How long a cancelled attempt may take to end. Until then it keeps its slot."""

_abandoned: set[asyncio.Task[None]] = set()
"""Keeps abandoned tasks from being collected while they run: the event loop only has weak references to them."""


class InProcessExecutor:
    """Calls one agent. A `MemberExecutor`.

    Args:
        threads: where a `def` agent runs.
    """

    def __init__(self, agent: AgentDeclaration, threads: Executor) -> None:
        handler = agent.handler
        # An attribute and no method: for an `async def` agent it is the agent's own function. A method in between
        # would add a call to each member of the fastest fan-outs.
        self.run: Callable[[Task], Awaitable[Any]] = (
            handler if agent.is_async else partial(call_in_thread, threads, handler)
        )

    def leave(self) -> None:
        """See `MemberExecutor.leave`. A call ends with its worker."""

    async def cancel(self, attempt: CoroutineHost) -> bool:
        """See `MemberExecutor.cancel`. An agent may catch every cancellation, so the wait is bounded."""
        attempt.task.cancel()
        if await attempt.ended_within(GRACE_SECONDS):
            return True
        task = attempt.task
        _abandoned.add(task)
        task.add_done_callback(_abandoned.discard)
        task.cancel()  # the second cancellation leaves a thread alone, see `call_in_thread`
        return False


async def call_in_thread(threads: Executor, handler: Callable[[Task], Any], task: Task) -> Any:
    """Call a `def` agent in a thread. What it returns is awaited where that is possible: the wrapper of a
    decorator is often a `def` around an `async def`.

    A thread cannot be interrupted. The first cancellation waits for it, since the task's `cancelled` tells the
    agent to end; the second leaves the thread alone.
    """
    run = copy_context().run  # log lines and spans of the thread belong to this member's run
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
    """What a call in a thread returned, or `Raised`: a future cannot carry a `StopIteration`, and a `SystemExit`
    would end the event loop."""
    process, began = os.getpid(), time.thread_time()
    outcome: Any
    try:
        outcome = run(handler, task)
    except BaseException as error:  # noqa: BLE001  # whatever an agent raises is its outcome
        outcome = Raised(error)
    # Added up: hooks of the member may run in threads of their own.
    task.thread_seconds = getattr(task, "thread_seconds", 0.0) + time.thread_time() - began
    # An agent that called `os.fork` returns here twice. The child process has no thread of the worker but this
    # one, and would go on as a second worker without a loop. It exits with the code of its `SystemExit`.
    if os.getpid() != process:
        os._exit(_exit_code(outcome))
    return outcome


def _exit_code(outcome: Any) -> int:
    if not isinstance(outcome, Raised):
        return 0
    code = getattr(outcome.error, "code", None) if isinstance(outcome.error, SystemExit) else 1
    return code if isinstance(code, int) else int(code is not None)
