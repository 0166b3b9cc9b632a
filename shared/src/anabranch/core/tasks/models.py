"""Projects, tasks and executions as the registry keeps them. Pure: ids and times are given.

`anabranch.tasks` has subclasses that make ids and times by themselves.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.tasks.kinds import ExecutionStatus, TaskPriority, TaskStatus, TaskType

SELF_DEPENDENCY = "Task cannot depend on itself"
TASK = "task"
"""The kind of an execution of a task."""
WORKFLOW = "workflow"
"""The kind of an execution of `anabranch.execution`."""


def _priority(value: Any) -> Any:
    """A priority by its name: "high"."""
    return TaskPriority.named(value) if isinstance(value, str) else value


def _aware(value: datetime | None) -> datetime | None:
    """A time without a zone is UTC."""
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


Priority = Annotated[TaskPriority, BeforeValidator(_priority)]


class Project(BaseModel):
    """A named set of tasks."""

    model_config = ConfigDict(extra="forbid")

    id: str
    name: str = Field(min_length=1, max_length=255)
    description: str = ""
    owner: str = DEFAULT_PROJECT
    """The project of the gateway's caller."""
    created_by: str = "system"
    created_at: datetime
    updated_at: datetime
    metadata: dict[str, Any] = Field(default_factory=dict)


class TaskDraft(BaseModel):
    """What the caller says about a task."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    name: str = Field(min_length=1, max_length=255)
    description: str | None = None
    task_type: TaskType = TaskType.CUSTOM
    priority: Priority = TaskPriority.NORMAL
    created_by: str = "system"
    assigned_to: str | None = None
    project_id: str | None = None
    depends_on: set[UUID] = Field(default_factory=set)
    deadline: datetime | None = None
    timeout_seconds: float | None = Field(default=None, gt=0)
    max_retries: int = Field(default=3, ge=0)
    tags: set[str] = Field(default_factory=set)
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Any values; nothing is read but by callers and agents."""
    execution_context: dict[str, Any] = Field(default_factory=dict)
    """Inputs of the agent, beside `task`."""
    resource_requirements: dict[str, Any] = Field(default_factory=dict)
    """`cpu_cores`, `memory_gb`, `disk_gb`, `gpu_count`, or the fields of `requires` of a request. Other names are
    kept and not read."""

    @field_validator("deadline")
    @classmethod
    def _deadline_has_zone(cls, value: datetime | None) -> datetime | None:
        return _aware(value)


class TaskChanges(BaseModel):
    """What changes in a task: the given fields."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    description: str | None = None
    priority: Priority | None = None
    assigned_to: str | None = None
    project_id: str | None = None
    depends_on: set[UUID] | None = None
    deadline: datetime | None = None
    timeout_seconds: float | None = None
    max_retries: int | None = None
    tags: set[str] | None = None
    metadata: dict[str, Any] | None = None
    execution_context: dict[str, Any] | None = None
    resource_requirements: dict[str, Any] | None = None


class Task(TaskDraft):
    """A unit of work.

    Attributes:
        owner: the project of the gateway's caller; runs of the task belong to it.
        reason: why it does not start: a dependency that failed, or no agent that can do it. None if it may start.
        execution_count: the number of its last execution; 0 if it has none.
        result: of its last execution.
    """

    id: UUID
    owner: str = DEFAULT_PROJECT
    status: TaskStatus = TaskStatus.PENDING
    retry_count: int = Field(default=0, ge=0)
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error_message: str | None = None
    reason: str | None = None
    execution_count: int = 0
    result: Any = None

    def can_retry(self) -> bool:
        """True if it failed, and was retried fewer than `max_retries` times."""
        return self.status == TaskStatus.FAILED and self.retry_count < self.max_retries

    def increment_retry(self) -> None:
        """Count a retry."""
        self.retry_count += 1

    def add_dependency(self, task_id: UUID) -> None:
        """Let the task start only after another one.

        Raises:
            ValueError: the other task is this one.
        """
        if task_id == self.id:
            raise ValueError(SELF_DEPENDENCY)
        self.depends_on = {*self.depends_on, task_id}

    def remove_dependency(self, task_id: UUID) -> None:
        """Remove a dependency, if there is one."""
        self.depends_on = self.depends_on - {task_id}

    def is_ready_to_run(self, completed: set[UUID] | frozenset[UUID]) -> bool:
        """True if it has not started, and every dependency is among the completed tasks."""
        return self.status in (TaskStatus.PENDING, TaskStatus.READY) and self.depends_on <= completed

    @property
    def has_ended(self) -> bool:
        return self.status.has_ended

    @property
    def duration_seconds(self) -> float | None:
        """Seconds from its start to its end; None if it has not ended."""
        if self.started_at is None or self.completed_at is None:
            return None
        return (self.completed_at - self.started_at).total_seconds()


class ResourceUsage(BaseModel):
    """What an execution used, as its worker measured it. None is not measured."""

    model_config = ConfigDict(extra="ignore")

    cpu_percent: float | None = None
    """Processor time in percent of the duration: 100 is one processor."""
    memory_mb: float | None = None
    """Peak memory."""
    cpu_seconds: float | None = None
    duration_seconds: float | None = None
    usd: float | None = None
    tokens: int | None = None


class ExecutionLog(BaseModel):
    """One line that an agent logged."""

    model_config = ConfigDict(extra="ignore")

    timestamp: datetime
    level: str = "info"
    message: str
    fields: dict[str, Any] = Field(default_factory=dict)


class TaskError(BaseModel):
    """Why an execution failed."""

    model_config = ConfigDict(extra="ignore")

    error_type: str
    message: str
    time: datetime
    traceback: str | None = None


class TaskExecution(BaseModel):
    """One execution of a task. Its run has the request id `task/<task id>/<execution number>`.

    Attributes:
        task_id: a UUID, or for executions of `anabranch.execution` any text.
        kind: `task`, or `workflow` for one of `anabranch.execution`.
        executor_id: the agent that was chosen.
        wants: what it needs to start: `agent/NAME`, `capability/NAME`, or nothing in particular.
        waiting: number of executions that have to complete first.
        scheduled_at: it does not start before.
        holds_slot: it counts in `max_concurrent_tasks`. A cancelled execution does until its run has ended.
        reason: why it does not start; None if nothing is known that keeps it.
        data: what its kind keeps.
    """

    model_config = ConfigDict(extra="ignore")

    id: UUID
    task_id: UUID | str
    execution_number: int = 1
    kind: str = TASK
    owner: str = DEFAULT_PROJECT
    executor_id: str | None = None
    wants: str = ""
    status: ExecutionStatus = ExecutionStatus.QUEUED
    priority: TaskPriority = TaskPriority.NORMAL
    deadline: datetime | None = None
    scheduled_at: datetime | None = None
    waiting: int = 0
    run_id: str
    request_id: str
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    resource_usage: ResourceUsage = Field(default_factory=ResourceUsage)
    result: Any = None
    error: TaskError | None = None
    error_message: str | None = None
    cancel_reason: str | None = None
    reason: str | None = None
    logs: list[ExecutionLog] = Field(default_factory=list)
    holds_slot: bool = False
    data: dict[str, Any] = Field(default_factory=dict)

    @property
    def duration_seconds(self) -> float | None:
        """Seconds from its start to its end; None if it has not ended."""
        if self.started_at is None or self.completed_at is None:
            return None
        return (self.completed_at - self.started_at).total_seconds()


class AgentRecord(BaseModel):
    """An agent as `register_agent` was told of it."""

    id: str = Field(min_length=1, max_length=255)
    agent_type: str = "custom"
    capabilities: set[str] = Field(default_factory=set)
    owner: str = DEFAULT_PROJECT
    registered_at: datetime
