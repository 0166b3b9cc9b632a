"""Commands from the event loop for the thread that owns a Kafka consumer.

A consumer holds a lock while it polls. Another thread would wait for the end of the poll, or forever, because the
lock is not fair. So one thread makes every call, and other threads queue commands for it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger("anabranch.kafka")


class Commands(Generic[T]):
    """A queue of calls on `target`; `run_pending` and `run_until` belong to the thread, the rest to the loop."""

    def __init__(self, target: T) -> None:
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._closed = False

    def submit(self, action: Callable[..., Any], *args: Any) -> None:
        """Queue `action(target, *args)` without waiting for it; a failure is logged."""
        self._queue.put(lambda: self._logged(action, args))

    async def call(self, action: Callable[..., R], *args: Any) -> R:
        """Queue `action(target, *args)` and return its result or raise its error."""
        if self._closed:
            raise RuntimeError("the consumer is closed")
        answer: asyncio.Future[R] = self._loop.create_future()
        self._queue.put(lambda: self._answered(answer, action, args))
        return await answer

    def run_pending(self) -> bool:
        """Run the queued commands; returns False if there were none."""
        ran = False
        # Only this thread takes commands, so the queue cannot become empty before `get_nowait`.
        while not self._queue.empty():
            self._queue.get_nowait()()
            ran = True
        return ran

    def run_until(self, done: Future[Any], timeout: float) -> bool:
        """Run commands until `done`; returns False if no command arrived for `timeout` seconds before that."""
        done.add_done_callback(lambda _: self._queue.put(_nothing))
        while not done.done():
            try:
                self._queue.get(timeout=timeout)()
            except queue.Empty:
                return False
        return True

    def close(self) -> None:
        """Refuse further commands."""
        self._closed = True

    def _logged(self, action: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            action(self._target, *args)
        except Exception:  # noqa: BLE001 - no caller waits for it; the thread must continue
            _log.exception("a command to a Kafka consumer failed; the consumer continues")

    def _answered(self, answer: asyncio.Future[Any], action: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            result = action(self._target, *args)
        except Exception as error:  # noqa: BLE001 - raised in the caller of `call`
            self._post(_fail, answer, error)
        else:
            self._post(_succeed, answer, result)

    def _post(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            _log.debug("the event loop closed before the command ran")


def _nothing() -> None:
    """Wakes `run_until`."""


def _succeed(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
