"""Begins agents' coroutines without an asyncio task for each, and gives those that wait a task of their own.

A member that does not wait costs no task: its coroutine is begun by a plain call, within the context and as the
current task of a `CoroutineHost`. Once a coroutine waits, its host's task continues it and is never used again. So
an agent that asks for its task (`asyncio.timeout`, `asyncio.TaskGroup`) sees the same one throughout, what it
cancels is its own, and the runner that waits for it can leave it alone after its time is over.
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
"""The name of the context variable in which `decimal` keeps an object that is changed in place."""


class Base:
    """The context that members start with: each in a copy of its own."""

    __slots__ = ("context", "is_shared")

    def __init__(self) -> None:
        self.context = copy_context()
        self.is_shared = any(variable.name == _DECIMAL for variable in self.context)
        """Whether a copy shares an object with the others, so that a change of it cannot be seen."""

    def fresh(self) -> Context:
        """A context for one member."""
        context = self.context.copy()
        if self.is_shared:
            context.run(_own_decimal_context)
        return context


def _own_decimal_context() -> None:
    import decimal

    decimal.setcontext(decimal.getcontext().copy())


@dataclass(frozen=True, slots=True)
class Raised:
    """Stands for an exception that a coroutine cannot raise: `StopIteration` would become another one in it."""

    error: BaseException


class CoroutineHost:
    """A task and a context in which agents are begun, until one of them waits or leaves a trace of itself.

    Invariant: the agents that were begun and did not wait have left context and task as they were; the one that
    waits is the last.
    """

    __slots__ = (
        "_coroutine",
        "_given",
        "_loop",
        "_waits_for",
        "_wake",
        "at",
        "context",
        "is_spent",
        "is_taken",
        "outcome",
        "task",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, base: Base) -> None:
        self._loop = loop
        self.context = base.fresh()
        self._given: asyncio.Future[None] = loop.create_future()
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._waits_for: Any = None
        self._wake: asyncio.Future[None] | None = None
        self.is_spent = base.is_shared
        """Whether the next agent needs another host: one waits here, or has changed the context or task."""
        self.is_taken = False
        """Whether it goes on with a coroutine that waits."""
        self.at: tuple[Any, ...] = ()
        """What the agent is called for at present: the caller's."""
        self.outcome: tuple[Any, BaseException | None] | None = None
        """What the agent that waited came to: its coroutine says so with its last step."""
        # Not by `create_task`: a factory of somebody else's may leave out the context.
        self.task: asyncio.Task[None] = asyncio.Task(self._drive(), loop=loop, context=self.context)
        self.task.add_done_callback(self._make_up)

    def run(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function as this host's task and in its context. It must not wait."""
        loop, caller = self._loop, asyncio.current_task()
        assert caller is not None, "hosts are used by tasks"
        _leave_task(loop, caller)
        _enter_task(loop, self.task)
        try:
            return self.context.run(call, *args)
        finally:
            _leave_task(loop, self.task)
            _enter_task(loop, caller)

    def take(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        """Go on with a coroutine that was begun within `run` and waits."""
        self._coroutine, self._waits_for = coroutine, waits_for
        self.is_spent = self.is_taken = True
        if not self._given.done():
            self._given.set_result(None)

    def release(self) -> None:
        """Nothing more is begun here. What waits goes on."""
        self.is_spent = True
        if self._coroutine is None:
            self._given.cancel()

    async def ended_within(self, seconds: float | None) -> bool:
        """Wait for the coroutine that was taken; False where the time is over first."""
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
        """What the coroutine returned, or its error raised."""
        assert self.outcome is not None, "it has ended"
        returned, error = self.outcome
        if error is not None:
            raise error
        return returned

    async def _drive(self) -> None:
        """The host's task. What it goes on with raises nothing: a `SystemExit` would end the loop."""
        cancelled = None
        try:
            await self._given
        except asyncio.CancelledError as error:
            cancelled = error
        if self._coroutine is not None:
            await self._finish(self._coroutine, cancelled)

    async def _finish(self, coroutine: Coroutine[Any, Any, Any], cancelled: asyncio.CancelledError | None) -> None:
        try:
            await _GoneOn(coroutine, self._waits_for, cancelled)
        finally:
            if self._wake is not None:
                _set(self._wake)

    def _make_up(self, task: asyncio.Task[None]) -> None:
        """A task that is cancelled before its first step never takes it: another goes on with the coroutine."""
        if self._coroutine is not None and self.outcome is None and task.cancelled():
            rest = self._finish(self._coroutine, asyncio.CancelledError())
            self.task = asyncio.Task(rest, loop=self._loop, context=self.context)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        with contextlib.suppress(RuntimeError):  # the loop is closed: an abandoned coroutine is collected
            future.set_result(None)


class _GoneOn:
    """Awaits a coroutine that another call has begun, from where it waits.

    `cancelled` is a cancellation that came before the task got hold of it.
    """

    __slots__ = ("_cancelled", "_coroutine", "_waits_for")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], waits_for: Any, cancelled: asyncio.CancelledError | None
    ) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for
        self._cancelled = cancelled

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, waits_for = self._coroutine, self._waits_for
        error: BaseException | None = None
        if self._cancelled is not None and not _is_cancelled_by(waits_for):
            error = self._cancelled
        sent: Any = None
        is_first = error is None
        while True:
            try:
                if is_first:
                    is_first = False
                elif error is None:
                    waits_for = coroutine.send(sent)
                else:
                    waits_for = coroutine.throw(error)
            except StopIteration as ended:
                return ended.value
            try:
                sent, error = (yield waits_for), None
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as thrown:  # noqa: BLE001  # it is the coroutine's
                error = thrown


def _is_cancelled_by(waits_for: Any) -> bool:
    """As a task does that is cancelled: it cancels what it waits for, where that can be."""
    return waits_for is not None and bool(waits_for.cancel())
