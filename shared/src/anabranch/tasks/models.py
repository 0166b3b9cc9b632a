"""Tasks, executions and projects that make their ids and times by themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from pydantic import Field

from anabranch.core.tasks import models
from anabranch.core.tasks.kinds import TaskStatus
from anabranch.core.tasks.models import TaskChanges, TaskDraft
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.ids import SystemIds

_CLOCK = SystemClock()
_IDS = SystemIds(_CLOCK)


def new_id() -> UUID:
    """A new id; later ones are greater."""
    return UUID(_IDS.run_scoped())


def utc_now() -> datetime:
    """The present time in UTC."""
    return datetime.fromtimestamp(_CLOCK.now(), UTC)


class Task(models.Task):
    """A unit of work: `Task(name="Build")`. See `TaskAPI.create_task`."""

    id: UUID = Field(default_factory=new_id)
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)

    def update_status(self, status: TaskStatus) -> None:
        """Set the status. `running` sets `started_at` once, an ended status sets `completed_at`."""
        self.status = status
        self.updated_at = now = utc_now()
        if status == TaskStatus.RUNNING and self.started_at is None:
            self.started_at = now
        if status.has_ended:
            self.completed_at = now


class TaskExecution(models.TaskExecution):
    """One execution of a task."""

    id: UUID = Field(default_factory=new_id)
    created_at: datetime = Field(default_factory=utc_now)
    run_id: str = ""
    request_id: str = ""


class Project(models.Project):
    """A named set of tasks."""

    id: str = Field(default_factory=lambda: str(new_id()))
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)


class CreateTaskRequest(TaskDraft):
    """What `TaskAPI.create_task` takes in place of a `Task`."""


class UpdateTaskRequest(TaskChanges):
    """What `TaskAPI.update_task` takes: only the given fields change."""
