"""Models of the responses and bodies about tasks, for the OpenAPI document."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from anabranch.core.request.models import MAX_BY, MAX_REASON
from anabranch.core.tasks.kinds import ExecutionStatus, TaskStatus, TaskType
from anabranch.core.tasks.models import TaskDraft
from anabranch_gateway.api.models import OpenModel


class TaskBody(TaskDraft):
    """A task to create, or `tasks`."""

    id: UUID | None = Field(default=None, description="Created twice with the same id, there is one task")
    project: str | None = Field(default=None, description="Of the gateway; default: that of the caller")
    tasks: list[TaskDraft] | None = Field(default=None, description="Several tasks, in place of all but `project`")


class TaskDocument(OpenModel):
    id: UUID
    owner: str = Field(description="The project of the gateway that it belongs to")
    name: str
    task_type: TaskType
    status: TaskStatus
    priority: int
    depends_on: list[UUID]
    assigned_to: str | None
    created_at: str
    reason: str | None = Field(description="Why it does not start")
    retry_count: int
    execution_count: int
    result: Any = Field(description="Of its last execution")
    error_message: str | None


class TasksCreated(TaskDocument):
    tasks: list[TaskDocument] | None = Field(
        default=None, description="If `tasks` were created, and then only this"
    )


class TaskPage(OpenModel):
    tasks: list[TaskDocument]
    next_cursor: str | None


class TaskExecutionDocument(OpenModel):
    id: UUID
    task_id: UUID
    execution_number: int
    status: ExecutionStatus
    executor_id: str | None
    run_id: str
    request_id: str
    created_at: str
    started_at: str | None
    completed_at: str | None
    result: Any
    error: dict[str, Any] | None
    resource_usage: dict[str, Any]
    logs: list[dict[str, Any]]
    reason: str | None = Field(description="Why it does not start")


class TaskExecutionList(OpenModel):
    executions: list[TaskExecutionDocument]


class ExecuteBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    agent_id: str | None = Field(default=None, description="The agent, in place of the one that is assigned")


class RetryTaskBody(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CancelTaskBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(default=None, max_length=MAX_REASON)
    by: str | None = Field(default=None, max_length=MAX_BY)


class TaskCancelled(OpenModel):
    task_id: UUID
    cancelled: bool = Field(description="False if it has ended or does not exist")


class TaskGraph(OpenModel):
    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]


class TaskPlan(OpenModel):
    total_tasks: int
    execution_order: list[UUID]
    phases: list[list[dict[str, Any]]]
    critical_path: list[UUID]
    forecast_seconds: float | None


class TaskReport(OpenModel):
    """Its fields depend on the report."""


class ProjectBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=255)
    description: str = ""
    project: str | None = Field(default=None, description="Of the gateway; default: that of the caller")
    created_by: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class ProjectDocument(OpenModel):
    id: str
    owner: str
    name: str
    description: str
    created_by: str
    created_at: str


class ProjectList(OpenModel):
    projects: list[ProjectDocument]


class TaskAgentBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    agent_type: str = Field(default="custom", description="The live agent that serves it")
    capabilities: list[str] = Field(default_factory=list, description="Types of tasks that it can do")


class TaskAgentDocument(OpenModel):
    id: str
    agent_type: str
    capabilities: list[str]


class TaskAgentList(OpenModel):
    agents: list[TaskAgentDocument]
