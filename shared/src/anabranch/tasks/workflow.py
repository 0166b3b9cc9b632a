"""Workflows: steps of several kinds, and the request that runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from anabranch.core.request.admission import read_request
from anabranch.core.tasks.kinds import TaskType
from anabranch.core.tasks.requests import run_name
from anabranch.tasks.models import new_id, utc_now


class WorkflowStatus(StrEnum):
    """The status of a workflow, which is that of its run."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ConditionOperator(StrEnum):
    """An operator of a condition, as in `when` of a request."""

    EQUALS = "equals"
    NOT_EQUALS = "not_equals"
    GREATER_THAN = "greater_than"
    GREATER_OR_EQUAL = "greater_or_equal"
    LESS_THAN = "less_than"
    LESS_OR_EQUAL = "less_or_equal"
    CONTAINS = "contains"
    NOT_CONTAINS = "not_contains"
    IN = "in"
    NOT_IN = "not_in"
    EXISTS = "exists"
    NOT_EXISTS = "not_exists"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    IS_TYPE = "is_type"


class WorkflowCondition(BaseModel):
    """A condition on a variable of the workflow or a result of an earlier step.

    Attributes:
        field: a path, such as `tests.passed`.
    """

    model_config = ConfigDict(extra="forbid")

    field: str
    operator: ConditionOperator = ConditionOperator.EQUALS
    value: Any = None

    def to_document(self) -> dict[str, Any]:
        """The condition as a request has it."""
        unary = (ConditionOperator.EXISTS, ConditionOperator.NOT_EXISTS)
        value = {} if self.operator in unary else {"value": self.value}
        return {"field": self.field, "operator": str(self.operator), **value}


class StepType(StrEnum):
    """The kind of a step."""

    TASK = "task"
    PARALLEL = "parallel"
    SEQUENTIAL = "sequential"
    CONDITIONAL = "conditional"
    LOOP = "loop"
    WAIT = "wait"


class WorkflowStep(BaseModel):
    """A step. Which fields it has depends on its type; see the methods of `WorkflowBuilder`."""

    model_config = ConfigDict(extra="forbid")

    id: UUID = Field(default_factory=new_id)
    name: str = Field(min_length=1, max_length=255)
    step_type: StepType = StepType.TASK
    task_template: dict[str, Any] = Field(default_factory=dict)
    condition: WorkflowCondition | None = None
    sub_steps: list[WorkflowStep] = Field(default_factory=list)
    true_steps: list[WorkflowStep] = Field(default_factory=list)
    false_steps: list[WorkflowStep] = Field(default_factory=list)
    max_iterations: int = Field(default=100, ge=1)
    wait_seconds: float | None = Field(default=None, ge=0)
    timeout_seconds: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        lacks = {
            StepType.PARALLEL: not self.sub_steps and "`sub_steps`",
            StepType.SEQUENTIAL: not self.sub_steps and "`sub_steps`",
            StepType.CONDITIONAL: self.condition is None and "a `condition`",
            StepType.LOOP: (self.condition is None or not self.sub_steps) and "a `condition` and `sub_steps`",
            StepType.WAIT: self.condition is None
            and self.wait_seconds is None
            and "`wait_seconds` or a condition",
        }.get(self.step_type)
        if lacks:
            raise ValueError(f"the {self.step_type} step {self.name!r} needs {lacks}")
        return self

    def to_document(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The step as a request has it. `variables`: those of the workflow."""
        return _LOWERED[self.step_type](self, variables)


def _task(step: WorkflowStep, variables: Mapping[str, Any]) -> dict[str, Any]:
    template = step.task_template
    task_type = TaskType(template.get("task_type", TaskType.CUSTOM))
    shown = {"name": step.name, **{key: value for key, value in template.items() if key in _SHOWN}}
    fields: dict[str, Any] = {
        "name": step.name,
        "agent": template.get("assigned_to") or {"capability": str(task_type)},
        "result_keys": list(template.get("result_keys") or [step.name]),
        "inputs": {
            **(template.get("execution_context") or {}),
            "task": {**shown, "task_type": str(task_type)},
        },
    }
    for source, target in _PASSED.items():
        if template.get(source) is not None:
            fields[target] = template[source]
    return fields


_SHOWN = ("name", "description", "metadata", "tags", "created_by")
_PASSED = {"timeout_seconds": "timeout", "retry": "retry", "when": "when", "error_key": "error_key"}


def _parallel(step: WorkflowStep, variables: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": step.name, "parallel": _documents(step.sub_steps, variables)}


def _sequential(step: WorkflowStep, variables: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": step.name, "sequential": _documents(step.sub_steps, variables)}


def _conditional(step: WorkflowStep, variables: Mapping[str, Any]) -> dict[str, Any]:
    assert step.condition is not None
    branches = {
        "then": _documents(step.true_steps, variables),
        "else": _documents(step.false_steps, variables),
    }
    given = {name: steps for name, steps in branches.items() if steps}
    return {"name": step.name, "if": step.condition.to_document(), **(given or {"then": []})}


def _loop(step: WorkflowStep, variables: Mapping[str, Any]) -> dict[str, Any]:
    assert step.condition is not None
    # A variable that the body writes is a state of the loop: its next value is what the body returned.
    written = {key for each in step.sub_steps for key in _keys_of(each)}
    state = {name: value for name, value in variables.items() if name in written}
    condition = step.condition.to_document()
    name, dot, rest = step.condition.field.partition(".")
    if name in state:
        condition["field"] = f"state.{name}{dot}{rest}"
    loop: dict[str, Any] = {
        "while": condition,
        "max_iterations": step.max_iterations,
        "on_limit": "complete",
        "steps": _documents(step.sub_steps, variables),
    }
    return {"name": step.name, "loop": {**loop, **({"state": state} if state else {})}}


def _wait(step: WorkflowStep, variables: Mapping[str, Any]) -> dict[str, Any]:
    wait: dict[str, Any] = {}
    if step.wait_seconds is not None:
        wait["for"] = step.wait_seconds
    elif step.condition is not None:
        wait["condition"] = step.condition.to_document()
    if step.timeout_seconds is not None:
        wait["timeout"] = step.timeout_seconds
    return {"name": step.name, "wait": wait}


_LOWERED = {
    StepType.TASK: _task,
    StepType.PARALLEL: _parallel,
    StepType.SEQUENTIAL: _sequential,
    StepType.CONDITIONAL: _conditional,
    StepType.LOOP: _loop,
    StepType.WAIT: _wait,
}


def _documents(steps: Sequence[WorkflowStep], variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [step.to_document(variables) for step in steps]


def _keys_of(step: WorkflowStep) -> list[str]:
    """The keys that a step writes, with those of its steps."""
    inner = [*step.sub_steps, *step.true_steps, *step.false_steps]
    own = step.task_template.get("result_keys") or [step.name] if step.step_type == StepType.TASK else []
    return [*own, *(key for each in inner for key in _keys_of(each))]


class Workflow(BaseModel):
    """Steps that run one after another.

    Attributes:
        context, variables: values that templates and conditions may name; of one name, that of `variables` counts.
    """

    model_config = ConfigDict(extra="forbid")

    id: UUID = Field(default_factory=new_id)
    name: str = Field(min_length=1, max_length=255)
    description: str | None = None
    created_by: str = "system"
    steps: list[WorkflowStep] = Field(default_factory=list)
    status: WorkflowStatus = WorkflowStatus.PENDING
    context: dict[str, Any] = Field(default_factory=dict)
    variables: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    tags: set[str] = Field(default_factory=set)
    timeout_seconds: float | None = Field(default=None, gt=0)
    created_at: datetime = Field(default_factory=utc_now)

    @property
    def request_id(self) -> str:
        """The request id of its run: a workflow runs once."""
        return f"workflow/{self.id}"

    def to_request(self) -> dict[str, Any]:
        """The request that runs the workflow.

        Raises:
            RequestRefused: it is invalid, with every reason; for example it has no steps.
        """
        values = {**self.context, **self.variables}
        request: dict[str, Any] = {
            "request_id": self.request_id,
            "name": run_name(self.name),
            "labels": {"workflow_id": str(self.id)},
            "context": values,
            "steps": _documents(self.steps, values),
        }
        if self.timeout_seconds is not None:
            request["timeout"] = self.timeout_seconds
        read_request(request).required()
        return request
