"""Task executions: tasks as workflows, with dependencies, retries and times. See docs/executions.md.

The names listed here are the public interface. Each is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anabranch.core.executions.kinds import RetryStrategy as RetryStrategy
    from anabranch.core.executions.kinds import TaskExecutionPriority as TaskExecutionPriority
    from anabranch.core.executions.kinds import TaskExecutionStatus as TaskExecutionStatus
    from anabranch.core.pipelines.converter import PipelineConverter as PipelineConverter
    from anabranch.core.tasks.errors import TaskNotFound as TaskNotFound
    from anabranch.core.tasks.errors import TaskRefused as TaskRefused
    from anabranch.core.tasks.kinds import TaskPriority as TaskPriority
    from anabranch.core.tasks.kinds import TaskStatus as TaskStatus
    from anabranch.execution.engine import TaskExecutionEngine as TaskExecutionEngine
    from anabranch.execution.models import TaskExecution as TaskExecution
    from anabranch.execution.process_engine import get_task_execution_engine as get_task_execution_engine
    from anabranch.execution.sync import SyncTaskExecutionEngine as SyncTaskExecutionEngine
    from anabranch.tasks.manager import TaskManager as TaskManager
    from anabranch.tasks.manager import get_task_manager as get_task_manager

_HOMES = {
    "anabranch.core.executions.kinds": ("RetryStrategy", "TaskExecutionPriority", "TaskExecutionStatus"),
    "anabranch.core.pipelines.converter": ("PipelineConverter",),
    "anabranch.core.tasks.errors": ("TaskNotFound", "TaskRefused"),
    "anabranch.core.tasks.kinds": ("TaskPriority", "TaskStatus"),
    "anabranch.execution.engine": ("TaskExecutionEngine",),
    "anabranch.execution.models": ("TaskExecution",),
    "anabranch.execution.process_engine": ("get_task_execution_engine",),
    "anabranch.execution.sync": ("SyncTaskExecutionEngine",),
    "anabranch.tasks.manager": ("TaskManager", "get_task_manager"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'anabranch.execution' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
