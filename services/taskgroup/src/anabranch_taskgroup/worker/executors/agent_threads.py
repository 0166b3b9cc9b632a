"""The threads in which `def` agents run.

A thread is started for each call that finds none idle, without a limit: slots bound the calls that run at once,
and a thread that was abandoned because it does not end must not reduce what the others may use. All are daemons,
so that none keeps a process from ending; the pool of the standard library joins its threads at exit.
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
    """Starts a thread where none is idle.

    Args:
        max_idle: threads that stay for further calls; a thread that ends its call beyond them ends.
    """

    def __init__(self, max_idle: int) -> None:
        self._max_idle = max_idle
        self._idle: list[_Inbox] = []
        self._lock = threading.Lock()
        self._numbers = count()
        self._is_shut_down = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in a thread at once.

        Raises:
            RuntimeError: the threads were shut down, or the system has no further thread.
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
        """End idle threads now and the others after their call, without waiting for them."""
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
            del work, future, call  # else an idle thread keeps the agent's last value alive
            stays = self._stays_idle(inbox)

    def _stays_idle(self, inbox: _Inbox) -> bool:
        with self._lock:
            stays = not self._is_shut_down and len(self._idle) < self._max_idle
            if stays:
                self._idle.append(inbox)
        return stays


def _settle(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  # the caller gets it from the future
        future.set_exception(error)
    else:
        future.set_result(result)
