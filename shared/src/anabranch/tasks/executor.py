"""How many tasks run at once, and in which order they start."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.core.tasks.dependencies import DependencyResolver
from anabranch.tasks.models import Task


@dataclass(frozen=True, slots=True)
class TaskExecutor:
    """Settings of a `TaskAPI`.

    Attributes:
        max_concurrent_tasks: executions that run at once.
        resource_monitor_interval: has no effect: workers measure each attempt.
    """

    max_concurrent_tasks: int = 100
    resource_monitor_interval: float = 1.0


class TaskScheduler:
    """The order in which the tasks of a resolver would start."""

    def __init__(self, dependency_resolver: DependencyResolver) -> None:
        self._resolver = dependency_resolver

    def next_tasks(self, limit: int | None = None) -> list[Task]:
        """The tasks that may start now, the most urgent first."""
        ready = self._resolver.get_ready_tasks()[:limit]
        return [Task.model_validate(each.model_dump()) for each in ready]
