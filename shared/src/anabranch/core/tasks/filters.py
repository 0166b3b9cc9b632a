"""Which tasks and executions a list shows. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.core.tasks.kinds import ExecutionStatus, TaskPriority, TaskStatus, TaskType

DEFAULT_LIMIT = 100


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Of each field None, or empty, is everything.

    Attributes:
        text: part of the name.
        after: creation time in seconds since the epoch, and id, of the last task of the page before.
    """

    owner: str | None = None
    status: tuple[TaskStatus, ...] = ()
    task_type: TaskType | None = None
    priority: TaskPriority | None = None
    assigned_to: str | None = None
    created_by: str | None = None
    project_id: str | None = None
    text: str | None = None
    after: tuple[float, str] | None = None
    limit: int | None = DEFAULT_LIMIT
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Of each field None, or empty, is everything.

    Attributes:
        scheduled_after: those that wait for a later time than this one, in seconds since the epoch.
        scheduled_by: the others.
        ended_since: in seconds since the epoch.
    """

    owner: str | None = None
    task_id: str | None = None
    kind: str | None = None
    not_kind: str | None = None
    status: tuple[ExecutionStatus, ...] = ()
    scheduled_after: float | None = None
    scheduled_by: float | None = None
    ended_since: float | None = None
    limit: int | None = DEFAULT_LIMIT
    offset: int = 0
