"""The SQL of tasks, dependencies, projects and agents: one transaction's view of the registry."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, or_, select, update

from anabranch.adapters.sql.task_tables import (
    projects,
    task_agents,
    task_dependencies,
    task_locks,
    tasks,
)
from anabranch.core.tasks.filters import TaskFilter
from anabranch.core.tasks.kinds import TaskStatus
from anabranch.core.tasks.models import AgentRecord, Project, Task

CHUNK = 500
"""Ids of one statement, at most: databases limit the number of parameters."""

_TIMES = ("created_at", "updated_at", "started_at", "completed_at", "deadline")
_COLUMNS = (
    "owner",
    "project_id",
    "name",
    "priority",
    "created_by",
    "assigned_to",
    "retry_count",
    "execution_count",
    "reason",
    "error_message",
    "result",
)
_FIELDS = (
    "description",
    "timeout_seconds",
    "max_retries",
    "tags",
    "metadata",
    "execution_context",
    "resource_requirements",
)


class TaskRows:
    """The tasks within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- tasks --------------------------------------------------------------------------------------

    def load(self, ids: Collection[UUID], *, lock: bool = False) -> dict[UUID, Task]:
        """The tasks with these ids that exist and are not hidden; with `lock`, nobody else changes them until the
        transaction ends."""
        found: list[Row[Any]] = []
        for part in chunks(sorted(map(str, ids))):
            query = select(tasks).where(tasks.c.id.in_(part), ~tasks.c.is_hidden).order_by(tasks.c.id)
            found += self._connection.execute(query.with_for_update() if lock else query)
        return {task.id: task for task in self._with_dependencies(found)}

    def hidden(self, ids: Collection[UUID]) -> set[UUID]:
        """Those of these ids that belong to hidden tasks."""
        found: set[UUID] = set()
        for part in chunks(sorted(map(str, ids))):
            query = select(tasks.c.id).where(tasks.c.id.in_(part), tasks.c.is_hidden)
            found |= {UUID(row.id) for row in self._connection.execute(query)}
        return found

    def statuses(self, ids: Collection[UUID]) -> dict[UUID, TaskStatus]:
        """The statuses of these tasks, as far as they exist. They keep them until the transaction ends."""
        found: dict[UUID, TaskStatus] = {}
        for part in chunks(sorted(map(str, ids))):
            query = select(tasks.c.id, tasks.c.status).where(tasks.c.id.in_(part), ~tasks.c.is_hidden)
            rows = self._connection.execute(query.order_by(tasks.c.id).with_for_update(read=True))
            found |= {UUID(row.id): TaskStatus(row.status) for row in rows}
        return found

    def add(self, new: Sequence[Task]) -> None:
        """Insert tasks with their dependencies, which exist or are among them."""
        self._connection.execute(insert(tasks), [{**_row_of(task), "is_hidden": False} for task in new])
        self._add_dependencies(new)

    def save(self, changed: Iterable[Task], *, with_dependencies: bool = False) -> None:
        """Write changed tasks."""
        for task in changed:
            row = _row_of(task)
            self._connection.execute(update(tasks).where(tasks.c.id == row.pop("id")).values(row))
            if with_dependencies:
                gone = delete(task_dependencies).where(task_dependencies.c.task_id == str(task.id))
                self._connection.execute(gone)
                self._add_dependencies([task])

    def lock_dependencies(self) -> None:
        """Let nobody else change the dependencies of tasks that exist until the transaction ends: two changes that
        do not see each other could close a circle."""
        self._connection.execute(select(task_locks).where(task_locks.c.name == "dependencies").with_for_update())

    def hide(self, task_id: UUID) -> None:
        """Leave a task out of all answers from now on."""
        self._connection.execute(update(tasks).where(tasks.c.id == str(task_id)).values(is_hidden=True))

    def dependents(self, ids: Collection[UUID]) -> set[UUID]:
        """The tasks that depend on one of these directly."""
        found: set[UUID] = set()
        for part in chunks(sorted(map(str, ids))):
            query = select(task_dependencies.c.task_id).where(task_dependencies.c.depends_on.in_(part))
            found |= {UUID(row.task_id) for row in self._connection.execute(query)}
        return found

    def open_dependencies(self, ids: Collection[UUID]) -> dict[UUID, dict[UUID, TaskStatus]]:
        """Of each task its dependencies that have not completed, with their statuses."""
        found: dict[UUID, dict[UUID, TaskStatus]] = {each: {} for each in ids}
        edge = task_dependencies
        for part in chunks(sorted(map(str, ids))):
            query = (
                select(edge.c.task_id, edge.c.depends_on, tasks.c.status)
                .join(tasks, tasks.c.id == edge.c.depends_on)
                .where(edge.c.task_id.in_(part), tasks.c.status != str(TaskStatus.COMPLETED))
            )
            for row in self._connection.execute(query):
                found[UUID(row.task_id)][UUID(row.depends_on)] = TaskStatus(row.status)
        return found

    def depends_on(self, ids: Collection[UUID]) -> dict[UUID, set[UUID]]:
        """Of each task what it depends on."""
        found: dict[UUID, set[UUID]] = {each: set() for each in ids}
        for part in chunks(sorted(map(str, ids))):
            query = select(task_dependencies).where(task_dependencies.c.task_id.in_(part))
            for row in self._connection.execute(query):
                found[UUID(row.task_id)].add(UUID(row.depends_on))
        return found

    def list_tasks(self, wanted: TaskFilter) -> list[Task]:
        """The tasks that match, the newest first."""
        return self._with_dependencies(list(self._connection.execute(_matching(wanted))))

    def counts(self, owner: str | None) -> dict[TaskStatus, int]:
        """The number of tasks in each status."""
        query = select(tasks.c.status, func.count()).where(~tasks.c.is_hidden).group_by(tasks.c.status)
        if owner is not None:
            query = query.where(tasks.c.owner == owner)
        found = dict.fromkeys(TaskStatus, 0)
        return found | {TaskStatus(status): count for status, count in self._connection.execute(query)}

    def _with_dependencies(self, rows: Sequence[Row[Any]]) -> list[Task]:
        needed = self.depends_on([UUID(row.id) for row in rows])
        return [_task_of(row, needed[UUID(row.id)]) for row in rows]

    def _add_dependencies(self, new: Iterable[Task]) -> None:
        edges = [
            {"task_id": str(task.id), "depends_on": str(each)} for task in new for each in sorted(task.depends_on)
        ]
        if edges:
            self._connection.execute(insert(task_dependencies), edges)

    # --- projects -----------------------------------------------------------------------------------

    def add_project(self, project: Project) -> None:
        """Insert a project."""
        self._connection.execute(insert(projects), [_project_row(project)])

    def save_project(self, project: Project) -> None:
        """Write a changed project."""
        row = _project_row(project)
        self._connection.execute(update(projects).where(projects.c.id == row.pop("id")).values(row))

    def project(self, project_id: str) -> Project | None:
        """The project with this id; None if there is none."""
        row = self._connection.execute(select(projects).where(projects.c.id == project_id)).first()
        return None if row is None else _project_of(row)

    def list_projects(self, owner: str | None, limit: int, offset: int) -> list[Project]:
        """Projects, the newest first."""
        query = select(projects).order_by(projects.c.created_at.desc(), projects.c.id.desc())
        if owner is not None:
            query = query.where(projects.c.owner == owner)
        return [_project_of(row) for row in self._connection.execute(query.limit(limit).offset(offset))]

    # --- agents -------------------------------------------------------------------------------------

    def put_agent(self, agent: AgentRecord) -> None:
        """Insert an agent, in place of one with its id."""
        self.remove_agent(agent.id)
        row = agent.model_dump() | {
            "capabilities": sorted(agent.capabilities),
            "registered_at": agent.registered_at.timestamp(),
        }
        self._connection.execute(insert(task_agents), [row])

    def remove_agent(self, agent_id: str) -> bool:
        """Delete an agent; False if there was none."""
        gone = self._connection.execute(delete(task_agents).where(task_agents.c.id == agent_id))
        return gone.rowcount > 0

    def agents(self) -> list[AgentRecord]:
        """The registered agents, by id."""
        rows = self._connection.execute(select(task_agents).order_by(task_agents.c.id))
        return [
            AgentRecord.model_validate({**row._mapping, "registered_at": moment(row.registered_at)})
            for row in rows
        ]


def _matching(wanted: TaskFilter) -> Select[Any]:
    query = select(tasks).where(~tasks.c.is_hidden)
    for name in ("owner", "project_id", "assigned_to", "created_by"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(tasks.c[name] == value)
    if wanted.status:
        query = query.where(tasks.c.status.in_(sorted(map(str, wanted.status))))
    if wanted.task_type is not None:
        query = query.where(tasks.c.task_type == str(wanted.task_type))
    if wanted.priority is not None:
        query = query.where(tasks.c.priority == int(wanted.priority))
    if wanted.text is not None:
        query = query.where(tasks.c.name.icontains(wanted.text, autoescape=True))
    if wanted.after is not None:
        time, id = wanted.after
        older = and_(tasks.c.created_at == time, tasks.c.id < id)
        query = query.where(or_(tasks.c.created_at < time, older))
    query = query.order_by(tasks.c.created_at.desc(), tasks.c.id.desc())
    query = query.offset(wanted.offset) if wanted.offset else query
    return query if wanted.limit is None else query.limit(wanted.limit)


def chunks(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """The ids in parts that one statement takes."""
    return (ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK))


def moment(seconds: float | None) -> datetime | None:
    """The time of a column."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def seconds_of(time: datetime | None) -> float | None:
    """The column of a time."""
    return None if time is None else time.timestamp()


def _row_of(task: Task) -> dict[str, Any]:
    fields = task.model_dump(mode="json", include=set(_FIELDS))
    return {
        "id": str(task.id),
        "task_type": str(task.task_type),
        "status": str(task.status),
        **{name: getattr(task, name) for name in _COLUMNS},
        "priority": int(task.priority),
        **{name: seconds_of(getattr(task, name)) for name in _TIMES},
        "fields": {**fields, "tags": sorted(fields["tags"])},
    }


def _task_of(row: Row[Any], depends_on: set[UUID]) -> Task:
    known = row._mapping
    times = {name: moment(known[name]) for name in _TIMES}
    columns = {name: known[name] for name in (*_COLUMNS, "id", "task_type", "status")}
    return Task.model_validate({**columns, **times, **known["fields"], "depends_on": depends_on})


def _project_row(project: Project) -> dict[str, Any]:
    times = {name: seconds_of(getattr(project, name)) for name in ("created_at", "updated_at")}
    return {**project.model_dump(), **times}


def _project_of(row: Row[Any]) -> Project:
    known = row._mapping
    times = {name: moment(known[name]) for name in ("created_at", "updated_at")}
    return Project.model_validate({**known, **times})
