"""`SyncTaskAPI`: the calls of `TaskAPI`, each of which blocks until it is done."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from anabranch.sdk.sync import LoopThread
from anabranch.tasks.api import TaskAPI

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[TaskAPI, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncTaskAPI, P], T]:
    def call(self: SyncTaskAPI, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread().call(method(self._api, *args, **kwargs))

    call.__name__, call.__doc__ = method.__name__, method.__doc__
    return call


class SyncTaskAPI:
    """`TaskAPI` without an event loop; it works on that of a private thread. Close it, or use it as
    `with SyncTaskAPI() as api`. Takes the arguments of `TaskAPI`."""

    def __init__(self, **arguments: Any) -> None:
        self._opened: LoopThread | None = None
        self._api = TaskAPI(**arguments)

    def __enter__(self) -> Self:
        self._thread()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop what runs in this process."""
        thread, self._opened = self._opened, None
        if thread is not None:
            thread.call(self._api.close())
            thread.close()

    create_task = _blocking(TaskAPI.create_task)
    create_tasks = _blocking(TaskAPI.create_tasks)
    get_task = _blocking(TaskAPI.get_task)
    update_task = _blocking(TaskAPI.update_task)
    delete_task = _blocking(TaskAPI.delete_task)
    list_tasks = _blocking(TaskAPI.list_tasks)
    add_dependency = _blocking(TaskAPI.add_dependency)
    assign_task = _blocking(TaskAPI.assign_task)
    execute_task = _blocking(TaskAPI.execute_task)
    cancel_task = _blocking(TaskAPI.cancel_task_execution)
    cancel_task_execution = _blocking(TaskAPI.cancel_task_execution)
    get_task_execution = _blocking(TaskAPI.get_task_execution)
    list_executions = _blocking(TaskAPI.list_executions)
    retry_task = _blocking(TaskAPI.retry_task)
    wait_for_task = _blocking(TaskAPI.wait_for_task)
    wait_for_tasks = _blocking(TaskAPI.wait_for_tasks)
    register_agent = _blocking(TaskAPI.register_agent)
    unregister_agent = _blocking(TaskAPI.unregister_agent)
    list_agents = _blocking(TaskAPI.list_agents)
    create_project = _blocking(TaskAPI.create_project)
    get_project = _blocking(TaskAPI.get_project)
    list_projects = _blocking(TaskAPI.list_projects)
    execute_workflow = _blocking(TaskAPI.execute_workflow)
    get_workflow_status = _blocking(TaskAPI.get_workflow_status)
    pause_workflow = _blocking(TaskAPI.pause_workflow)
    resume_workflow = _blocking(TaskAPI.resume_workflow)
    cancel_workflow = _blocking(TaskAPI.cancel_workflow)
    wait_for_workflow = _blocking(TaskAPI.wait_for_workflow)
    create_checkpoint = _blocking(TaskAPI.create_checkpoint)
    restore_from_checkpoint = _blocking(TaskAPI.restore_from_checkpoint)
    get_system_metrics = _blocking(TaskAPI.get_system_metrics)
    get_performance_report = _blocking(TaskAPI.get_performance_report)
    get_queue_statistics = _blocking(TaskAPI.get_queue_statistics)
    get_dependency_graph = _blocking(TaskAPI.get_dependency_graph)
    get_execution_plan = _blocking(TaskAPI.get_execution_plan)
    health_check = _blocking(TaskAPI.health_check)

    def _thread(self) -> LoopThread:
        if self._opened is None:
            self._opened = LoopThread()
        return self._opened
