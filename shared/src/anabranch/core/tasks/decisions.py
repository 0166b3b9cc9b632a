"""The decisions of the registry: rows in, changed rows out. Pure.

A task waits while `waiting` of its dependencies have not completed. Once none is left, it gets a queued execution,
which the steward starts when there is a slot and an agent. A task without dependencies gets one when it is asked
for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from anabranch.core.tasks.dependencies import does_not_exist
from anabranch.core.tasks.errors import TaskRefused, TaskStateError
from anabranch.core.tasks.kinds import ExecutionStatus, TaskStatus
from anabranch.core.tasks.models import (
    SELF_DEPENDENCY,
    WORKFLOW,
    ResourceUsage,
    Task,
    TaskError,
    TaskExecution,
)
from anabranch.core.tasks.outcomes import Outcome, request_id_of, run_id_of

AGENT = "agent/"
CAPABILITY = "capability/"
RETRY_COUNT = "retry_count"
"""In the data of an execution of `anabranch.execution` whose run has ended: how often its work was repeated."""
_FAILED = (TaskStatus.FAILED, TaskStatus.CANCELLED)
_OF_TASK = {
    ExecutionStatus.COMPLETED: TaskStatus.COMPLETED,
    ExecutionStatus.FAILED: TaskStatus.FAILED,
    ExecutionStatus.TIMEOUT: TaskStatus.FAILED,
    ExecutionStatus.CANCELLED: TaskStatus.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What a task waits for: the number of dependencies that have not completed, and the reason if it is shown."""

    waiting: int
    reason: str | None = None


def standing(dependencies: Mapping[UUID, TaskStatus]) -> Standing:
    """What a task with these dependencies waits for."""
    open_ = [each for each, status in dependencies.items() if status != TaskStatus.COMPLETED]
    ended = sorted((str(each), status) for each, status in dependencies.items() if status in _FAILED)
    reason = None if not ended else blocked_by(*ended[0])
    return Standing(len(open_), reason)


def blocked_by(task_id: UUID | str, status: TaskStatus) -> str:
    """Why a dependent of a task that ended without success does not start."""
    what = "failed" if status == TaskStatus.FAILED else "was cancelled"
    return f"Dependency task {task_id} {what}: it starts when that is retried and completes"


def check_dependencies(task_id: UUID, wanted: Iterable[UUID], known: Iterable[UUID]) -> None:
    """Raises TaskRefused if a dependency does not exist, or is the task itself."""
    given, there = set(wanted), set(known)
    problems = [SELF_DEPENDENCY] if task_id in given else []
    problems += [does_not_exist(each) for each in sorted(given - there - {task_id})]
    if problems:
        raise TaskRefused(tuple(problems))


def changed(task: Task, changes: Mapping[str, Any], now: datetime) -> Task:
    """The task with other fields.

    Raises:
        TaskStateError: it runs or has ended.
        pydantic.ValidationError: a value is invalid.
    """
    refuse_underway(task, "updated")
    return Task.model_validate({**task.model_dump(), **changes, "updated_at": now})


def refuse_underway(task: Task, what: str) -> None:
    """Raises TaskStateError if the task runs or has ended."""
    if task.status.is_underway or task.has_ended:
        hint = "cancel it first" if task.status.is_underway else "create a new task in its place"
        raise TaskStateError(f"task {task.id} is {task.status} and cannot be {what}: {hint}")


def check_startable(task: Task, standing: Standing) -> None:
    """Raises TaskStateError if no execution of the task may be queued."""
    if task.has_ended:
        hint = "retry it" if task.status == TaskStatus.FAILED else "create a new task"
        raise TaskStateError(f"task {task.id} is {task.status} and cannot be executed: {hint}")
    if standing.waiting:
        why = standing.reason or f"{standing.waiting} of its dependencies have not completed"
        raise TaskStateError(f"task {task.id} cannot be executed: {why}")


def queued(task: Task, execution_id: UUID, now: datetime) -> tuple[Task, TaskExecution]:
    """The task with a new execution, which waits for a slot and an agent."""
    number = task.execution_count + 1
    execution = TaskExecution(
        id=execution_id,
        task_id=task.id,
        execution_number=number,
        run_id=run_id_of(task.id, number),
        request_id=request_id_of(task.id, number),
        owner=task.owner,
        wants=wants_of(task),
        priority=task.priority,
        deadline=task.deadline,
        created_at=now,
    )
    fields = {"status": TaskStatus.READY, "execution_count": number, "updated_at": now, "reason": None}
    return task.model_copy(update=fields), execution


def wants_of(task: Task) -> str:
    """What an execution of the task needs: its agent, or any with the capability that its type is."""
    if task.assigned_to is not None:
        return AGENT + task.assigned_to
    return CAPABILITY + str(task.task_type)


def retried(task: Task, execution_id: UUID, now: datetime) -> tuple[Task, TaskExecution]:
    """The failed task with a new execution.

    Raises:
        TaskStateError: it has not failed, or was retried `max_retries` times.
    """
    if task.status != TaskStatus.FAILED:
        raise TaskStateError(f"task {task.id} is {task.status}: only a failed task can be retried")
    if not task.can_retry():
        text = f"task {task.id} was retried {task.retry_count} times, and max_retries is {task.max_retries}"
        raise TaskStateError(f"{text}: create a new task")
    fresh = {"retry_count": task.retry_count + 1, "completed_at": None, "error_message": None, "result": None}
    return queued(task.model_copy(update=fresh), execution_id, now)


def execution_started(execution: TaskExecution, agent: str | None, now: datetime) -> TaskExecution:
    """The execution when it gets a slot and an agent."""
    fields = {
        "status": ExecutionStatus.RUNNING,
        "executor_id": agent,
        "started_at": now,
        "holds_slot": True,
        "reason": None,
    }
    return execution.model_copy(update=fields)


def task_started(task: Task, now: datetime) -> Task:
    """The task when its execution starts."""
    fields = {
        "status": TaskStatus.RUNNING,
        "started_at": task.started_at or now,
        "updated_at": now,
        "reason": None,
    }
    return task.model_copy(update=fields)


def execution_ended(execution: TaskExecution, outcome: Outcome, now: datetime) -> TaskExecution:
    """The execution when its run has ended. One that was cancelled before only frees its slot."""
    data = execution.data
    if outcome.retries is not None and execution.kind == WORKFLOW:
        data = {**data, RETRY_COUNT: outcome.retries}
    if execution.status.has_ended:
        return execution.model_copy(update={"holds_slot": False, "data": data})
    error = None if outcome.error is None else TaskError.model_validate({**outcome.error, "time": now})
    return execution.model_copy(
        update={
            "status": outcome.status,
            "result": outcome.result,
            "error": error,
            "error_message": None if error is None else error.message,
            "completed_at": now,
            "holds_slot": False,
            "cancel_reason": outcome.cancel_reason,
            "resource_usage": usage_of(execution, outcome, now),
            "data": data,
        }
    )


def task_ended(task: Task, execution: TaskExecution, now: datetime) -> Task:
    """The task when its last execution has ended; unchanged if it had ended before, or if it is not the last."""
    if execution.execution_number != task.execution_count or task.has_ended:
        return task
    fields = {
        "status": _OF_TASK[execution.status],
        "result": execution.result,
        "error_message": execution.error_message,
        "reason": execution.cancel_reason,
        "completed_at": now,
        "updated_at": now,
    }
    return task.model_copy(update=fields)


def usage_of(execution: TaskExecution, outcome: Outcome, now: datetime) -> ResourceUsage:
    """What an execution used; its processor time in percent of its duration."""
    usage = ResourceUsage.model_validate(dict(outcome.usage))
    duration = usage.duration_seconds
    if duration is None and execution.started_at is not None:
        duration = (now - execution.started_at).total_seconds()
    percent = 100 * usage.cpu_seconds / duration if usage.cpu_seconds is not None and duration else None
    return usage.model_copy(update={"duration_seconds": duration, "cpu_percent": percent})


def task_cancelled(task: Task, reason: str | None, now: datetime) -> Task:
    """The cancelled task."""
    fields = {"status": TaskStatus.CANCELLED, "completed_at": now, "updated_at": now, "reason": reason}
    return task.model_copy(update=fields)


def execution_cancelled(execution: TaskExecution, reason: str | None, now: datetime) -> TaskExecution:
    """The cancelled execution. One that has started keeps its slot until its run has ended."""
    fields = {"status": ExecutionStatus.CANCELLED, "completed_at": now, "cancel_reason": reason, "reason": None}
    return execution.model_copy(update=fields)


def why_cancelled(execution_id: UUID, status: ExecutionStatus) -> str:
    """Why an execution is cancelled that depends on one that ended without success."""
    what = {ExecutionStatus.CANCELLED: "was cancelled", ExecutionStatus.TIMEOUT: "timed out"}.get(status, "failed")
    return f"Dependency execution {execution_id} {what}"
