"""`SyncTaskExecutionEngine`: the calls of `TaskExecutionEngine`, each of which blocks until it is done."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from anabranch.execution.engine import TaskExecutionEngine
from anabranch.execution.hooks import Hook
from anabranch.sdk.sync import LoopThread

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[TaskExecutionEngine, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncTaskExecutionEngine, P], T]:
    def call(self: SyncTaskExecutionEngine, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread().call(method(self._engine, *args, **kwargs))

    call.__name__, call.__doc__ = method.__name__, method.__doc__
    return call


class SyncTaskExecutionEngine:
    """`TaskExecutionEngine` without an event loop; it works on that of a private thread. Shut it down, or use it
    as `with SyncTaskExecutionEngine() as engine`. Takes the arguments of `TaskExecutionEngine`."""

    def __init__(self, **arguments: Any) -> None:
        self._opened: LoopThread | None = None
        self._engine = TaskExecutionEngine(**arguments)

    def __enter__(self) -> Self:
        self.initialize()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        """Stop what runs in this process."""
        thread, self._opened = self._opened, None
        if thread is not None:
            thread.call(self._engine.shutdown())
            thread.close()

    initialize = _blocking(TaskExecutionEngine.initialize)
    schedule_task = _blocking(TaskExecutionEngine.schedule_task)
    schedule_task_batch = _blocking(TaskExecutionEngine.schedule_task_batch)
    schedule_task_graph = _blocking(TaskExecutionEngine.schedule_task_graph)
    get_execution = _blocking(TaskExecutionEngine.get_execution)
    list_executions = _blocking(TaskExecutionEngine.list_executions)
    get_execution_stats = _blocking(TaskExecutionEngine.get_execution_stats)
    cancel_execution = _blocking(TaskExecutionEngine.cancel_execution)
    wait_for_executions = _blocking(TaskExecutionEngine.wait_for_executions)

    def add_pre_execution_hook(self, hook: Hook) -> None:
        """See `TaskExecutionEngine`."""
        self._engine.add_pre_execution_hook(hook)

    def add_post_execution_hook(self, hook: Hook) -> None:
        """See `TaskExecutionEngine`."""
        self._engine.add_post_execution_hook(hook)

    def _thread(self) -> LoopThread:
        if self._opened is None:
            self._opened = LoopThread()
        return self._opened
