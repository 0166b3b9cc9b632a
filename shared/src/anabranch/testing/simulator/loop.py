"""An event loop with virtual time that knows the simulated process of each step.

A context variable names the process of a step. Tasks and callbacks copy the context of the code that starts them,
so everything that a process starts belongs to it, without any help from the product. The loop holds back the steps
of a frozen or dead process: a process stops between any two of its steps, and none of its `finally` blocks run, as
after SIGKILL. The order of steps is deterministic.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple

from anabranch.testing.loop import EPOCH

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class ProcessGate:
    """Lets the steps of one process run, or holds them back in order (`held`)."""

    __slots__ = ("held", "is_open", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_open = True
        self.held: list[SimHandle] = []


GATE: ContextVar[ProcessGate | None] = ContextVar("gate", default=None)
"""The process of the running step; None for servers, users and faults."""

OUTSIDE = Context()
"""Context of steps that belong to no process."""


def inside(gate: ProcessGate) -> Context:
    """A context for the steps of a process. Everything that these steps start inherits it."""
    context = Context()
    context.run(GATE.set, gate)
    return context


class SimHandle:
    """A due step or a timer, as `call_soon` and `call_at` return it."""

    __slots__ = ("_cancelled", "args", "callback", "context", "due")

    def __init__(self, due: float, callback: Callable[..., Any], args: tuple[Any, ...], context: Context) -> None:
        self.due = due
        self.callback = callback
        self.args = args
        self.context = context
        self._cancelled = False

    def cancel(self) -> None:
        """Prevent the step from running."""
        self._cancelled = True

    def cancelled(self) -> bool:
        """True if the step was cancelled."""
        return self._cancelled

    def when(self) -> float:
        """Loop time at which the step is due."""
        return self.due


class Deadlock(Exception):
    """No step and no timer is left, but the awaited future is not done."""


class SimLoop(asyncio.AbstractEventLoop):
    """See the module. `def` agents run on the loop itself, because threads would not be deterministic.

    `errors` collects exceptions of tasks that no code retrieved.
    """

    def __init__(self) -> None:
        self.epoch = EPOCH
        """When virtual time begins, in seconds since the epoch."""
        self._now = 0.0
        self._ready: deque[SimHandle] = deque()
        self._timers: list[tuple[float, int, SimHandle]] = []
        self._order = 0
        self._is_running = False
        self._is_closed = False
        self.steps = 0
        self.errors: list[str] = []

    # --- running -------------------------------------------------------------------------------------

    def run_until_complete(self, future: Any) -> Any:
        """Run a coroutine and return its result. Raises Deadlock."""
        task = asyncio.ensure_future(future, loop=self)
        self._is_running = True
        # `asyncio.get_running_loop` has to find this loop, which no runner of asyncio has started.
        asyncio._set_running_loop(self)
        try:
            while not task.done():
                self._turn()
        finally:
            self._is_running = False
            asyncio._set_running_loop(None)
        return task.result()

    def _turn(self) -> None:
        ready = self._ready
        if not ready:
            self._pass_time()
        while ready:
            handle = ready.popleft()
            # The attribute instead of the method, because this is the hottest loop of a simulation.
            if handle._cancelled:
                continue
            context = handle.context
            gate = context.get(GATE)
            if gate is not None and not gate.is_open:
                gate.held.append(handle)
                continue
            self.steps += 1
            try:
                context.run(handle.callback, *handle.args)
            except Exception as error:  # noqa: BLE001 - as in every loop, a failed callback does not stop the others
                self.errors.append(f"{handle.callback!r}: {type(error).__name__}: {error}")

    def _pass_time(self) -> None:
        """Jump to the time of the next timer: nothing else can happen before it."""
        timers = self._timers
        # A cancelled timer stays in the heap until it is the next: removing it earlier would cost a search.
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        if not timers:
            raise Deadlock("no step and no timer is left")
        due, _, handle = heappop(timers)
        # A timer may have been set for a time that had passed.
        self._now = max(self._now, due)
        self._ready.append(handle)

    def open(self, gate: ProcessGate) -> None:
        """Resume a process: its held steps run in order."""
        gate.is_open = True
        held, gate.held = gate.held, []
        self._ready.extend(held)

    # --- the interface of an asyncio loop ------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_soon(self, callback: Callable[[*Ts], Any], *args: *Ts, context: Context | None = None) -> Any:
        """See asyncio."""
        handle = SimHandle(self._now, callback, args, context if context is not None else copy_context())
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[[*Ts], Any], *args: *Ts, context: Context | None = None
    ) -> Any:
        """See asyncio. Timers with equal times run in the order of their creation."""
        handle = SimHandle(when, callback, args, context if context is not None else copy_context())
        # Breaks ties in the heap, because handles cannot be compared.
        self._order += 1
        heappush(self._timers, (when, self._order, handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], Any], *args: *Ts, context: Context | None = None
    ) -> Any:
        """See asyncio."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **_: Any,
    ) -> asyncio.Task[T]:
        """See asyncio."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run `func` now, on the loop."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - the exception is the outcome of the future
            future.set_exception(error)
        return future

    def get_debug(self) -> bool:
        """See asyncio."""
        return False

    def is_running(self) -> bool:
        """See asyncio."""
        return self._is_running

    def is_closed(self) -> bool:
        """See asyncio."""
        return self._is_closed

    def close(self) -> None:
        """See asyncio."""
        self._ready.clear()
        self._timers.clear()
        self._is_closed = True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Collect an exception that no code retrieved."""
        error = context.get("exception")
        if error is not None:
            self.errors.append(f"{context['message']}: {type(error).__name__}: {error}")
