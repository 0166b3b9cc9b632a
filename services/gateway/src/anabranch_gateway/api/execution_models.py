"""Models of the responses and bodies about executions, for the OpenAPI document."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from anabranch.core.executions.drafts import ExecutionDraft
from anabranch.core.executions.kinds import RetryStrategy, TaskExecutionPriority, TaskExecutionStatus
from anabranch.core.request.models import MAX_BY, MAX_REASON
from anabranch_gateway.api.models import OpenModel


class ExecutionBody(ExecutionDraft):
    """An execution of `task_id`, of each of `task_ids`, or of the tasks of a `task_graph`."""

    task_id: str | None = None  # type: ignore[assignment]
    task_ids: list[str] | None = Field(default=None, description="In place of `task_id`: one of each")
    task_graph: dict[str, list[str]] | None = Field(
        default=None,
        description="In place of `task_id`: task id to the tasks that come first; `workflow_params` is by task id",
    )
    project: str | None = Field(default=None, description="Of the gateway; default: that of the caller")


class ExecutionDocument(OpenModel):
    execution_id: UUID
    task_id: str
    task_name: str
    execution_number: int
    status: TaskExecutionStatus
    priority: TaskExecutionPriority
    workflow_type: str
    workflow_params: dict[str, Any]
    retry_strategy: RetryStrategy
    max_retries: int
    retry_delay: float
    timeout: float | None
    dependencies: list[str]
    scheduled_time: str | None
    created_at: str
    started_at: str | None
    completed_at: str | None
    retry_count: int | None = Field(description="Null if it runs and the view of its run is not known")
    executor: str | None
    run_id: str | None = Field(description="Null if nothing has to run")
    result: Any
    error: str | None
    reason: str | None = Field(description="Why it waits, or why it was cancelled")


class FailedToSchedule(OpenModel):
    task_id: str
    error: str


class Scheduled(OpenModel):
    """The execution of `task_id`; or of `task_ids` `successful` and `failed`; or of a graph the others."""

    execution_id: UUID | None = None
    successful: list[ExecutionDocument] | None = None
    failed: list[FailedToSchedule] | None = None
    executions: list[ExecutionDocument] | None = None
    task_order: list[str] | None = None


class ExecutionPage(OpenModel):
    executions: list[ExecutionDocument]
    total_count: int
    limit: int
    offset: int


class ExecutionStatistics(OpenModel):
    total_count: int
    status_counts: dict[str, int]
    successful_executions: int
    failed_executions: int
    max_concurrent_executions: int


class CancelExecutionBody(BaseModel):
    by: str | None = Field(default=None, max_length=MAX_BY)
    reason: str | None = Field(default=None, max_length=MAX_REASON)


class ExecutionCancelled(OpenModel):
    success: bool
    execution_id: str
    message: str
