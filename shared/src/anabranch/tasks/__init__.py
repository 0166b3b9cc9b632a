"""Tasks: create them, give them to agents by what these can do, watch them, report on them. See docs/tasks.md.

The names listed here are the public interface. Each is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anabranch.core.tasks.dependencies import CircularDependencyError as CircularDependencyError
    from anabranch.core.tasks.dependencies import DependencyResolver as DependencyResolver
    from anabranch.core.tasks.errors import TaskNotFound as TaskNotFound
    from anabranch.core.tasks.errors import TaskRefused as TaskRefused
    from anabranch.core.tasks.errors import TaskStateError as TaskStateError
    from anabranch.core.tasks.kinds import ExecutionStatus as ExecutionStatus
    from anabranch.core.tasks.kinds import TaskPriority as TaskPriority
    from anabranch.core.tasks.kinds import TaskStatus as TaskStatus
    from anabranch.core.tasks.kinds import TaskType as TaskType
    from anabranch.core.tasks.models import ExecutionLog as ExecutionLog
    from anabranch.core.tasks.models import ResourceUsage as ResourceUsage
    from anabranch.tasks.api import TaskAPI as TaskAPI
    from anabranch.tasks.executor import TaskExecutor as TaskExecutor
    from anabranch.tasks.executor import TaskScheduler as TaskScheduler
    from anabranch.tasks.factory import TaskFactory as TaskFactory
    from anabranch.tasks.manager import TaskManager as TaskManager
    from anabranch.tasks.manager import get_task_manager as get_task_manager
    from anabranch.tasks.measuring import TaskLogger as TaskLogger
    from anabranch.tasks.measuring import TaskMetrics as TaskMetrics
    from anabranch.tasks.models import CreateTaskRequest as CreateTaskRequest
    from anabranch.tasks.models import Project as Project
    from anabranch.tasks.models import Task as Task
    from anabranch.tasks.models import TaskExecution as TaskExecution
    from anabranch.tasks.models import UpdateTaskRequest as UpdateTaskRequest
    from anabranch.tasks.sync import SyncTaskAPI as SyncTaskAPI
    from anabranch.tasks.workflow import ConditionOperator as ConditionOperator
    from anabranch.tasks.workflow import StepType as StepType
    from anabranch.tasks.workflow import Workflow as Workflow
    from anabranch.tasks.workflow import WorkflowCondition as WorkflowCondition
    from anabranch.tasks.workflow import WorkflowStatus as WorkflowStatus
    from anabranch.tasks.workflow import WorkflowStep as WorkflowStep
    from anabranch.tasks.workflow_builder import WorkflowBuilder as WorkflowBuilder

_HOMES = {
    "anabranch.core.tasks.dependencies": ("CircularDependencyError", "DependencyResolver"),
    "anabranch.core.tasks.errors": ("TaskNotFound", "TaskRefused", "TaskStateError"),
    "anabranch.core.tasks.kinds": ("ExecutionStatus", "TaskPriority", "TaskStatus", "TaskType"),
    "anabranch.core.tasks.models": ("ExecutionLog", "ResourceUsage"),
    "anabranch.tasks.api": ("TaskAPI",),
    "anabranch.tasks.executor": ("TaskExecutor", "TaskScheduler"),
    "anabranch.tasks.factory": ("TaskFactory",),
    "anabranch.tasks.manager": ("TaskManager", "get_task_manager"),
    "anabranch.tasks.measuring": ("TaskLogger", "TaskMetrics"),
    "anabranch.tasks.models": ("CreateTaskRequest", "Project", "Task", "TaskExecution", "UpdateTaskRequest"),
    "anabranch.tasks.sync": ("SyncTaskAPI",),
    "anabranch.tasks.workflow": (
        "ConditionOperator",
        "StepType",
        "Workflow",
        "WorkflowCondition",
        "WorkflowStatus",
        "WorkflowStep",
    ),
    "anabranch.tasks.workflow_builder": ("WorkflowBuilder",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'anabranch.tasks' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
