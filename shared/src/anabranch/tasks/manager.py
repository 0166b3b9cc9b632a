"""`TaskManager`: projects and tasks, for code without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from anabranch.core.tasks.errors import TaskNotFound
from anabranch.core.tasks.filters import TaskFilter
from anabranch.core.tasks.kinds import TaskPriority, TaskStatus, TaskType
from anabranch.registry import tasks as registry
from anabranch.registry.transaction import Transaction
from anabranch.tasks.api import public
from anabranch.tasks.ids import TaskId, as_id, required_id
from anabranch.tasks.models import Project, Task, UpdateTaskRequest
from anabranch.tasks.system import TaskSystem, default_system

T = TypeVar("T")


class TaskManager:
    """Creates and changes projects and tasks. Each call is one transaction of the database and blocks until it is
    done, also within an event loop. What runs tasks is a `TaskAPI` or an execution engine over the same system.

    Args:
        system: by default that of the process.
    """

    def __init__(self, system: TaskSystem | None = None) -> None:
        self.system = system or default_system()

    # --- projects -----------------------------------------------------------------------------------

    def create_project(self, name: str, description: str = "", **fields: Any) -> Project:
        """Create a project."""
        project = Project(name=name, description=description, **fields)
        self._write(lambda tx: tx.tasks.add_project(project))
        return project

    def get_project(self, project_id: str) -> Project | None:
        """The project; None if there is none."""
        found = self._read(lambda tx: tx.tasks.project(project_id))
        return None if found is None else Project.model_validate(found.model_dump())

    def list_projects(self, limit: int = 100, offset: int = 0) -> list[Project]:
        """Projects, the newest first."""
        found = self._read(lambda tx: tx.tasks.list_projects(None, limit, offset))
        return [Project.model_validate(each.model_dump()) for each in found]

    # --- tasks --------------------------------------------------------------------------------------

    def create_task(
        self,
        name: str | Task,
        description: str | None = None,
        project_id: str | None = None,
        priority: TaskPriority = TaskPriority.NORMAL,
        **fields: Any,
    ) -> Task:
        """Create a task from its fields, or the given `Task`.

        Raises:
            TaskRefused: a dependency or the project does not exist.
            pydantic.ValidationError: a field is invalid.
        """
        task = name
        if not isinstance(task, Task):
            own = {"name": name, "description": description, "project_id": project_id, "priority": priority}
            task = Task.model_validate({**own, **fields})
        return public(self._write(lambda tx: registry.create(tx, [task]))[0])

    def get_task(self, task_id: TaskId) -> Task | None:
        """The task; None if there is none."""
        id = as_id(task_id)
        found = None if id is None else self._read(lambda tx: tx.tasks.load([id]).get(id))
        return None if found is None else public(found)

    def list_tasks(
        self,
        project_id: str | None = None,
        status: TaskStatus | Iterable[TaskStatus] | None = None,
        *,
        task_type: TaskType | None = None,
        assigned_to: str | None = None,
        limit: int | None = 100,
        offset: int = 0,
    ) -> list[Task]:
        """Tasks that match, the newest first."""
        statuses = () if status is None else (status,) if isinstance(status, str) else tuple(status)
        wanted = TaskFilter(
            project_id=project_id,
            status=tuple(map(TaskStatus, statuses)),
            task_type=task_type,
            assigned_to=assigned_to,
            limit=limit,
            offset=offset,
        )
        return [public(each) for each in self._read(lambda tx: tx.tasks.list_tasks(wanted))]

    def update_task(self, task_id: TaskId, **changes: Any) -> Task:
        """Change fields of a task that has not started.

        Raises:
            TaskNotFound, TaskStateError, TaskRefused, CircularDependencyError: as `TaskAPI.update_task`.
        """
        checked = UpdateTaskRequest.model_validate(changes).model_dump(exclude_unset=True)
        id = required_id(task_id)
        return public(self._write(lambda tx: registry.change(tx, id, checked)))

    def add_dependency(self, task_id: TaskId, depends_on: TaskId) -> Task:
        """Let a task start only after another one. Raises as `update_task`."""
        id, needed = required_id(task_id), required_id(depends_on)
        return public(self._write(lambda tx: registry.add_dependency(tx, id, needed)))

    def delete_task(self, task_id: TaskId) -> bool:
        """Cancel a task that has not started, and leave it out of all answers; False if there is none.

        Raises:
            TaskStateError: it runs or has ended.
        """
        id = as_id(task_id)
        if id is None:
            return False
        try:
            self._write(lambda tx: registry.delete(tx, id))
        except TaskNotFound:
            return False
        return True

    # --- internal -----------------------------------------------------------------------------------

    def _write(self, work: Callable[[Transaction], T]) -> T:
        result = self.system.transactions.write(work)
        self.system.wake()
        return result

    def _read(self, work: Callable[[Transaction], T]) -> T:
        return self.system.transactions.read(work)


_managers: list[TaskManager] = []


def get_task_manager() -> TaskManager:
    """The task manager of this process."""
    if not _managers:
        _managers.append(TaskManager())
    return _managers[0]
