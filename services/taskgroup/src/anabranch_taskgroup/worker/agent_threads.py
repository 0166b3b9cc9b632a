"""The threads in which `def` agents run.

There are as many as are used at once: what may run at once is bounded by slots, and a thread that was abandoned
because it does not end may not take another's place. They are daemons: none of them keeps a process from ending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from itertools import count
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Work = tuple["Future[Any]", Callable[[], Any]]
_Inbox = SimpleQueue[_Work | None]


class AgentThreads(Executor):
    """Starts a thread where none is idle. `kept` are those that stay for the next call."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._idle: list[_Inbox] = []
        self._lock = threading.Lock()
        self._numbers = count()
        self._is_shut_down = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in a thread at once.

        Raises:
            RuntimeError: the threads were shut down, or the system allows for no further thread.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("the threads of agents were shut down: the worker stops")
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = SimpleQueue()
            name = f"agent_{next(self._numbers)}"
            threading.Thread(target=self._serve, args=(inbox,), name=name, daemon=True).start()
        inbox.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let idle threads end now and the others after their call. Waits for none of them."""
        with self._lock:
            self._is_shut_down = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    def _serve(self, inbox: _Inbox) -> None:
        stays = True
        while stays and (work := inbox.get()) is not None:
            future, call = work
            if future.set_running_or_notify_cancel():
                _settle(future, call)
            del work, future, call  # an idle thread keeps no value of an agent alive
            stays = self._is_kept(inbox)

    def _is_kept(self, inbox: _Inbox) -> bool:
        with self._lock:
            stays = not self._is_shut_down and len(self._idle) < self._kept
            if stays:
                self._idle.append(inbox)
        return stays


def _settle(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  # it is the caller's, who waits for the future
        future.set_exception(error)
    else:
        future.set_result(result)
