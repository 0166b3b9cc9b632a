"""What callers say about an execution, and the row that it becomes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from anabranch.core.executions.kinds import RetryStrategy, TaskExecutionPriority
from anabranch.core.json_values import NotJson, as_json
from anabranch.core.names import run_id_for
from anabranch.core.tasks.availability import PROGRAM
from anabranch.core.tasks.decisions import AGENT
from anabranch.core.tasks.models import WORKFLOW, Task, TaskExecution
from anabranch.core.tasks.outcomes import execution_request_id

CONTAINERIZED = "containerized_workflow"
"""The built-in type of workflow: a program, an agent, or nothing but its inputs."""
MAX_RETRIES = 1_000_000
MAX_SECONDS = 1_000_000_000
"""As of requests."""


def with_zone(value: datetime | None) -> datetime | None:
    """A time without a zone is local, as `datetime.now()` is."""
    return value.astimezone() if value is not None and value.tzinfo is None else value


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def _json_object(value: Any) -> Any:
    """The object as JSON has it; a value without a JSON form is an error at its path."""
    if not isinstance(value, Mapping):
        raise ValueError(f"must be an object, not {value!r:.100}")
    try:
        return as_json(value)
    except NotJson as error:
        raise ValueError(str(error)) from error


def _checked_params(params: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(params.get("inputs") or {}, Mapping):
        raise ValueError(f"inputs must be an object, not {params['inputs']!r:.100}")
    if not isinstance(params.get("agent"), str | None):
        raise ValueError(f"agent must be the name of an agent, not {params['agent']!r:.100}")
    return params


def _by_name(kind: type[TaskExecutionPriority] | type[RetryStrategy]) -> BeforeValidator:
    return BeforeValidator(lambda value: value if isinstance(value, kind) else kind(value))


class ExecutionDraft(BaseModel):
    """What the caller says about an execution.

    Attributes:
        workflow_params: `inputs`, and what else the type of workflow reads; further names are kept and not read.
        retry_delay: seconds; see `RetryStrategy`.
        timeout: seconds from its start to its end, with all retries.
        dependencies: the executions that have to complete first.
        scheduled_time: it does not start before. Without a zone it is local time.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    task_id: Annotated[str, BeforeValidator(_text)] = Field(min_length=1, max_length=255)
    workflow_type: str = Field(default=CONTAINERIZED, min_length=1, max_length=255)
    priority: Annotated[TaskExecutionPriority, _by_name(TaskExecutionPriority)] = TaskExecutionPriority.MEDIUM
    workflow_params: Annotated[dict[str, Any], BeforeValidator(_json_object), AfterValidator(_checked_params)] = (
        Field(default_factory=dict)
    )
    retry_strategy: Annotated[RetryStrategy, _by_name(RetryStrategy)] = RetryStrategy.EXPONENTIAL_BACKOFF
    max_retries: int = Field(default=3, ge=0, le=MAX_RETRIES)
    retry_delay: float = Field(default=5.0, ge=0, le=MAX_SECONDS)
    timeout: float | None = Field(default=3600.0, gt=0, le=MAX_SECONDS)
    dependencies: list[Annotated[str, BeforeValidator(_text)]] = Field(default_factory=list)
    scheduled_time: Annotated[datetime | None, Field(default=None)] = None
    metadata: Annotated[dict[str, Any], BeforeValidator(_json_object)] = Field(default_factory=dict)

    def model_post_init(self, _: Any) -> None:
        """Order and zones: dependencies once each, times with a zone."""
        self.dependencies = list(dict.fromkeys(map(str, self.dependencies)))
        self.scheduled_time = with_zone(self.scheduled_time)

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The inputs of the workflow."""
        return inputs_of(self.workflow_params)


def inputs_of(workflow_params: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a workflow."""
    found = workflow_params.get("inputs")
    return dict(found) if isinstance(found, Mapping) else {}


def wants_of(workflow_params: Mapping[str, Any]) -> str:
    """What an execution needs to start: an executor of programs, the agent that it names, or nothing."""
    if isinstance(name := workflow_params.get("agent"), str):
        return AGENT + name
    has_request = workflow_params.get("request") is not None
    return PROGRAM if is_program(inputs_of(workflow_params)) and not has_request else ""


def is_program(inputs: Mapping[str, Any]) -> bool:
    """True if the inputs name a program."""
    return bool(inputs.get("container_image") or inputs.get("image") or inputs.get("command"))


def new_execution(
    draft: ExecutionDraft, task: Task, execution_id: UUID, number: int, waiting: int, now: datetime
) -> TaskExecution:
    """The execution of a task, which waits for `waiting` others, for its time, and for a slot."""
    kept = draft.model_dump(mode="json", exclude={"task_id", "priority", "scheduled_time"})
    request_id = execution_request_id(execution_id)
    return TaskExecution(
        id=execution_id,
        task_id=draft.task_id,
        execution_number=number,
        kind=WORKFLOW,
        owner=task.owner,
        run_id=run_id_for(request_id),
        request_id=request_id,
        wants=wants_of(draft.workflow_params),
        priority=draft.priority.level,
        scheduled_at=draft.scheduled_time,
        waiting=waiting,
        created_at=now,
        data={**kept, "priority": str(draft.priority), "task": shown_task(task)},
    )


def shown_task(task: Task) -> dict[str, Any]:
    """The task as the execution keeps it, from when it was scheduled."""
    names = ("id", "name", "description", "task_type", "priority", "created_by", "tags", "metadata", "project_id")
    shown = task.model_dump(mode="json", include={*names, "execution_context"})
    return {**shown, "tags": sorted(shown["tags"])}
