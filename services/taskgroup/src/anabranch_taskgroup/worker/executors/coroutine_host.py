"""Begins agents' coroutines without an asyncio task for each, and gives a task only to those that wait.

A coroutine is begun by a plain call, within the context and as the current task of a `CoroutineHost`. If it ends
at once it cost no task and no turn of the event loop. If it waits, the host's task continues it, and the host is
not used again. So an agent that asks for its task (`asyncio.timeout`, `asyncio.TaskGroup`) sees the same one
throughout, cancels only itself, and can be abandoned by the runner that waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_DECIMAL = "decimal_context"
"""The context variable of the `decimal` module. Its value is an object that is changed in place."""


class BaseContext:
    """The context of a runner, of which each host gets a copy."""

    __slots__ = ("context", "is_shared")

    def __init__(self) -> None:
        self.context = copy_context()
        self.is_shared = any(variable.name == _DECIMAL for variable in self.context)
        """True if a copy would share an object that agents change in place, which no comparison can notice."""

    def fresh(self) -> Context:
        """A copy for one host, with a decimal context of its own."""
        context = self.context.copy()
        if self.is_shared:
            context.run(_own_decimal_context)
        return context


def _own_decimal_context() -> None:
    import decimal

    decimal.setcontext(decimal.getcontext().copy())


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception as a value. A coroutine cannot raise `StopIteration`: Python turns it into a `RuntimeError`."""

    error: BaseException


class CoroutineHost:
    """A task and a context in which agents are begun, until one of them waits or changes the context or the task.

    Invariant: every agent that was begun here and has ended left context and task as it found them. An agent that
    waits is the last one of its host.
    """

    __slots__ = (
        "_caller",
        "_coroutine",
        "_loop",
        "_taken",
        "_waits_for",
        "_wake",
        "at",
        "context",
        "cpu",
        "cpu_clock",
        "is_spent",
        "is_taken",
        "outcome",
        "subject",
        "task",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, base: BaseContext) -> None:
        caller = asyncio.current_task()
        assert caller is not None, "hosts are used by tasks"
        self._caller = caller
        self._loop = loop
        self.context = base.fresh()
        self._taken: asyncio.Future[None] = loop.create_future()
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._waits_for: Any = None
        self._wake: asyncio.Future[None] | None = None
        # With a decimal context each agent needs a host of its own: its changes of that object cannot be noticed.
        self.is_spent = base.is_shared
        """True if the next agent needs another host: one waits here, or changed the context or the task."""
        self.is_taken = False
        """True if the host's task continues a coroutine that waits."""
        self.at: tuple[Any, ...] = ()
        """The attempt that is being made. The host does not read it."""
        self.cpu_clock: Callable[[], float] | None = None
        """Measures the steps of a coroutine that was taken; None if it is not measured."""
        self.cpu = 0.0
        """Seconds of processor time of these steps, and of those before."""
        self.subject: Any = None
        """The member's task of a coroutine that was taken and is measured."""
        self.outcome: tuple[Any, BaseException | None] | None = None
        """Result and error of the agent that waited, set by its coroutine in its last step."""
        # Without `create_task`, because a task factory that an agent's library has set may ignore the context.
        self.task: asyncio.Task[None] = asyncio.Task(self._drive(), loop=loop, context=self.context)
        self.task.add_done_callback(self._restart)

    def run(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function in this host's context and as its task. The function must not wait, and the caller is
        the task that made the host."""
        # The private functions of asyncio that a task calls around each of its steps: for the time of the call the
        # loop takes the host's task for the current one, although the caller's task is the one that runs.
        loop, caller = self._loop, self._caller
        _leave_task(loop, caller)
        _enter_task(loop, self.task)
        try:
            return self.context.run(call, *args)
        finally:
            _leave_task(loop, self.task)
            _enter_task(loop, caller)

    def take(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        """Continue a coroutine that was begun within `run` and waits.

        Args:
            waits_for: what the coroutine yielded, a future or None.
        """
        self._coroutine, self._waits_for = coroutine, waits_for
        self.is_spent = self.is_taken = True
        if not self._taken.done():
            self._taken.set_result(None)

    def release(self) -> None:
        """Begin nothing more here, and end the host's task unless it continues a coroutine."""
        self.is_spent = True
        if self._coroutine is None:
            self._taken.cancel()

    async def ended_within(self, seconds: float | None) -> bool:
        """Wait for the outcome of the coroutine that was taken; False if there is none after `seconds`."""
        if self.outcome is not None:
            return True
        self._wake = wake = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, _set, wake)
        try:
            await wake
        finally:
            if timer is not None:
                timer.cancel()
        return self.outcome is not None

    def result(self) -> Any:
        """What the coroutine returned.

        Raises:
            BaseException: what the coroutine raised.
        """
        assert self.outcome is not None, "it has ended"
        returned, error = self.outcome
        if error is not None:
            raise error
        return returned

    async def _drive(self) -> None:
        """The host's task. Its coroutine puts errors into `outcome` and raises none: a `SystemExit` that a task
        raises ends the event loop."""
        cancelled = None
        try:
            await self._taken
        except asyncio.CancelledError as error:
            cancelled = error
        if self._coroutine is not None:
            await self._finish(self._coroutine, cancelled)

    async def _finish(self, coroutine: Coroutine[Any, Any, Any], cancelled: asyncio.CancelledError | None) -> None:
        try:
            await _Continuation(coroutine, self._waits_for, cancelled, self)
        finally:
            if self._wake is not None:
                _set(self._wake)

    def _restart(self, task: asyncio.Task[None]) -> None:
        """Continue the coroutine in a new task where the first was cancelled before its first step: such a task
        runs nothing, and the coroutine would never see its cancellation."""
        if self._coroutine is not None and self.outcome is None and task.cancelled():
            rest = self._finish(self._coroutine, asyncio.CancelledError())
            self.task = asyncio.Task(rest, loop=self._loop, context=self.context)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        with contextlib.suppress(RuntimeError):  # the loop is closed, and an abandoned coroutine is collected
            future.set_result(None)


class _Continuation:
    """Awaits a coroutine that was begun elsewhere, from the point where it waits.

    Args:
        waits_for: what the coroutine yielded last.
        cancelled: a cancellation of the task before this is awaited.
        host: notes the processor time of the steps, if it has a clock for that.
    """

    __slots__ = ("_cancelled", "_coroutine", "_host", "_waits_for")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        waits_for: Any,
        cancelled: asyncio.CancelledError | None,
        host: CoroutineHost,
    ) -> None:
        self._host = host
        self._coroutine = coroutine
        self._waits_for = waits_for
        self._cancelled = cancelled

    def __await__(self) -> Generator[Any, Any, Any]:
        # What `yield from coroutine` does, except that its first step is the yield and not a `send`: the coroutine
        # has yielded `waits_for` already, to the caller that began it.
        coroutine, waits_for = self._coroutine, self._waits_for
        error: BaseException | None = None
        if self._cancelled is not None and not _is_cancelled_by(waits_for):
            error = self._cancelled
        sent: Any = None
        is_first = error is None
        host, clock = self._host, self._host.cpu_clock
        while True:
            step_began = 0.0 if clock is None else clock()
            try:
                if is_first:
                    is_first = False
                elif error is None:
                    waits_for = coroutine.send(sent)
                else:
                    waits_for = coroutine.throw(error)
            except StopIteration as ended:
                return ended.value
            finally:
                if clock is not None:
                    host.cpu += clock() - step_began
            try:
                sent, error = (yield waits_for), None
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as thrown:  # noqa: BLE001  # thrown into the coroutine with its next step
                error = thrown


def _is_cancelled_by(waits_for: Any) -> bool:
    """Cancel what a coroutine waits for, as a task does that is cancelled; False if that is not possible."""
    return waits_for is not None and bool(waits_for.cancel())
