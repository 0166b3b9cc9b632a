"""The fields of tasks, groups and loops as keyword arguments of the builder, for editors and type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypedDict

from anabranch.core.request.budget_fields import Amounts
from anabranch.core.request.cache_fields import Cache
from anabranch.core.request.models import Compensation, Expansion, RetryPolicy
from anabranch.sdk.workflow.steps import Step

Json: TypeAlias = Any
Duration: TypeAlias = float | str | timedelta
"""Seconds, a text such as `"5m"`, or a timedelta."""
Condition: TypeAlias = str | bool | Mapping[str, Any]
"""A condition as text, such as `"score >= 0.8"`, or as data."""
Retry: TypeAlias = RetryPolicy | Mapping[str, Any] | Sequence[RetryPolicy | Mapping[str, Any]]
Tasks: TypeAlias = Sequence[Step | str]
"""Tasks: what `add_task` returned, or names."""


class StepOptions(TypedDict, total=False):
    """Fields of every step with a name: tasks, waits and sub-runs."""

    result_keys: Sequence[str]
    optional_result_keys: Sequence[str]
    dependencies: Sequence[Step | str]
    optional_dependencies: Sequence[str]
    external_dependencies: Sequence[str]
    expansion_config: Expansion | Mapping[str, Any]
    when: Condition
    after: Tasks
    error_key: str
    tolerated_failures: int | str


class TaskOptions(StepOptions, total=False):
    """Fields of a task with an agent; see docs/requests.md."""

    inputs: Json
    message_template: Json
    shared_instructions: Json
    tools: Sequence[str]
    retry: Retry
    timeout: Duration
    on_failure: Literal["fail", "hold"]
    max_concurrency: int
    max_deliveries: int
    compensate: Compensation | Mapping[str, Any]
    budget: Amounts | Mapping[str, Any]
    estimate: Amounts | Mapping[str, Any]
    cache: Cache | Mapping[str, Any]


class RunOptions(StepOptions, total=False):
    """Fields of a task that starts a run."""

    retry: Retry
    timeout: Duration
    max_concurrency: int
    budget: Amounts | Mapping[str, Any]
    estimate: Amounts | Mapping[str, Any]


class FunctionOptions(TypedDict, total=False):
    """Fields of a function that is a task."""

    inputs: Mapping[str, Json]
    result_keys: Sequence[str]
    dependencies: Sequence[Step | str]
    when: Condition
    after: Tasks
    error_key: str
    tolerated_failures: int | str
    retry: Retry
    timeout: Duration
    on_failure: Literal["fail", "hold"]
    max_concurrency: int
    compensate: Compensation | Mapping[str, Any]
    budget: Amounts | Mapping[str, Any]
    estimate: Amounts | Mapping[str, Any]
    cache: Cache | Mapping[str, Any]


class LoopOptions(TypedDict, total=False):
    """Fields of a loop besides its end."""

    state: Mapping[str, Json]
    max_iterations: int
    max_duration: Duration
    delay: Duration
    on_limit: Literal["fail", "complete"]
    on_failure: Literal["fail", "continue"]
    collect: Literal["last", "append", "none"]


class GroupOptions(TypedDict, total=False):
    """Fields of a group."""

    when: Condition
    sequential: bool
    loop: Mapping[str, Any]
    dependencies: Sequence[Step | str]
    timeout: Duration
    max_concurrency: int
    fail_fast: bool
    race: bool
    need: int
    budget: Amounts | Mapping[str, Any]


class RequestOptions(TypedDict, total=False):
    """Fields of a request besides its tasks."""

    context: Mapping[str, Json]
    context_policies: Mapping[str, Any]
    labels: Mapping[str, str]
    timeout: Duration
    budget: Amounts | Mapping[str, Any]
    request_id: str
    session_id: str
    project: str


class ApprovalOptions(TypedDict, total=False):
    """What a person is asked."""

    subject: str
    body: Json
    options: Sequence[str]
    form: Mapping[str, Json]
    assignees: Sequence[str]
    required: int
    forbid_requester: bool
    on_reject: Literal["fail", "skip", "value"]
