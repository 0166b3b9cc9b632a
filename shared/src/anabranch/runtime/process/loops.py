"""Event loops and process exits that code of agents cannot interfere with.

An agent may leave tasks, callbacks and threads behind. A `SystemExit` in one of them does not end the loop, a task
that catches its cancellation does not keep the loop from closing, and no thread keeps the process from ending.
Ctrl-C still ends the loop.
"""

from __future__ import annotations

import asyncio
import dis
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from anabranch.core.errors import MainTaskCancelled

T = TypeVar("T")

LEFT_SECONDS: Final = 1.0
"""Seconds that leftover tasks, threads and generators may take to end when a loop closes."""

END_SECONDS: Final = 3.0
"""Seconds that a process may take to exit after its command has ended."""

_RAISE: Final = dis.opmap["RAISE_VARARGS"]
# Name of the method of asyncio.Runner that handles SIGINT, and raises KeyboardInterrupt at the second one.
_RUNNERS_HANDLER: Final = "_on_sigint"

_log = logging.getLogger("anabranch.process")
_abandoned: list[asyncio.Task[Any]] = []
"""Abandoned tasks. The reference keeps asyncio from logging "Task was destroyed" for each."""


def run(work: Coroutine[Any, Any, T], make_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Run a coroutine to its end on a loop of its own (uvloop if installed), and clean up what it leaves
    behind.

    Args:
        make_loop: makes another kind of loop.

    Raises:
        MainTaskCancelled: code in this process cancelled the coroutine, without an interrupt.
    """
    with asyncio.Runner(loop_factory=make_loop or new_loop) as runner:
        try:
            return runner.run(_with_own_threads(work))
        except asyncio.CancelledError as error:
            raise MainTaskCancelled from error
        finally:  # the runner itself would wait without limit for tasks that ignore cancellation
            runner.get_loop().run_until_complete(cancel_leftover_tasks())


async def _with_own_threads(work: Coroutine[Any, Any, T]) -> T:
    asyncio.get_running_loop().set_default_executor(_BoundedShutdownExecutor())
    return await work


async def cancel_leftover_tasks() -> None:
    """Cancel all other tasks of the running loop. Tasks that do not end in time are abandoned and logged."""
    loop = asyncio.get_running_loop()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=LEFT_SECONDS)
    for task in left:
        if not task.done():
            _abandon(task)
    generators = asyncio.ensure_future(loop.shutdown_asyncgens())
    await asyncio.wait((generators,), timeout=LEFT_SECONDS)
    if not generators.done():
        _abandon(generators)


def _abandon(task: asyncio.Task[Any]) -> None:
    _log.warning("abandoned %r: it did not end within %g s of being cancelled", task, LEFT_SECONDS)
    _abandoned.append(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    asyncio.tasks._unregister_task(task)  # a loop that closes waits for all tasks that it knows


class _BoundedShutdownExecutor(ThreadPoolExecutor):
    """Executor of `asyncio.to_thread` whose shutdown waits at most LEFT_SECONDS for each thread."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        if wait:
            for thread in self._threads:
                thread.join(LEFT_SECONDS)


# --- loops ----------------------------------------------------------------------------------------


if TYPE_CHECKING:
    _Loop = asyncio.BaseEventLoop
else:
    _Loop = object  # a mixin: also for uvloop, whose loop has another base class


class UnendingLoop(_Loop):
    """Mixin for a loop: an exception of a task or callback ends the loop only if it ends the main task.

    asyncio's own `run_forever` ends on every `SystemExit` and `KeyboardInterrupt`, but it can be entered again:
    callbacks that were ready still run.
    """

    _main: asyncio.Future[Any] | None = None
    _is_to_stop = False

    def run_until_complete(self, future: Any) -> Any:
        """See asyncio."""
        main = asyncio.ensure_future(future, loop=self)
        before, self._main = self._main, main
        try:
            return super().run_until_complete(main)
        finally:
            self._main = before

    def stop(self) -> None:
        """See asyncio. While the main task runs, only code of an agent calls this: nothing stops."""
        # asyncio itself calls `stop` only after the main task is done.
        if self._main is not None and not self._main.done():
            _log.error("an agent called stop() on the event loop: ignored, the process continues", stack_info=True)
            return
        self._is_to_stop = True
        super().stop()

    def run_forever(self) -> None:
        """See asyncio."""
        self._is_to_stop = False
        while True:
            try:
                return super().run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                if is_interrupt(error) or _failed_with(self._main, error):
                    raise
                _log.error(
                    "a task or callback of an agent raised %r; the process continues", error, exc_info=error
                )
                if self._is_to_stop or (self._main is not None and self._main.done()):
                    return None


def _failed_with(main: asyncio.Future[Any] | None, error: BaseException) -> bool:
    return main is not None and main.done() and not main.cancelled() and main.exception() is error


def is_interrupt(error: BaseException) -> bool:
    """True if an error comes from a signal handler (Ctrl-C), not from the interrupted code."""
    last = error.__traceback__ if type(error) is KeyboardInterrupt else None
    if last is None:
        return False
    while last.tb_next is not None:
        last = last.tb_next
    # asyncio's signal handler raises it, or Python's default handler does between two instructions of the
    # innermost frame. If the last instruction of that frame is a `raise`, code of an agent raised the exception.
    return last.tb_frame.f_code.co_name == _RUNNERS_HANDLER or not _is_raised_at(last)


def _is_raised_at(place: TracebackType) -> bool:
    return place.tb_frame.f_code.co_code[place.tb_lasti] == _RAISE


def _unending(base: type[Any]) -> Callable[[], asyncio.AbstractEventLoop]:
    made: Callable[[], asyncio.AbstractEventLoop] = type(base.__name__, (UnendingLoop, base), {})
    return made


def new_loop() -> asyncio.AbstractEventLoop:
    """Create a loop that agents cannot end, on uvloop if installed."""
    try:
        import uvloop
    except ImportError:  # not on every platform
        return _unending(type(asyncio.new_event_loop()))()
    return _unending(uvloop.Loop)()


# --- processes ------------------------------------------------------------------------------------


def end_process_with(code: int) -> int:
    """Make sure that the process soon exits with this code, even if threads of an agent do not end. Returns the
    code.

    Call it last: Python waits for such threads at exit.
    """
    # `os._exit` flushes no buffers.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # closed, or without a reader
            continue
    threading.Thread(target=_end_late, args=(code,), name="end process", daemon=True).start()
    return code


def _end_late(code: int) -> None:
    threading.Event().wait(END_SECONDS)  # a daemon: a process that ends by itself does not wait for it
    os._exit(code)
