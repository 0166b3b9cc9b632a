"""Executions as callers see them: their status by the view of their run, and the document of answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from anabranch.core.executions.kinds import TaskExecutionStatus
from anabranch.core.executions.starting import outcome_in
from anabranch.core.tasks.decisions import RETRY_COUNT
from anabranch.core.tasks.filters import ExecutionFilter
from anabranch.core.tasks.kinds import ExecutionStatus
from anabranch.core.tasks.models import WORKFLOW, TaskExecution
from anabranch.core.wire.run_view import RunView

_FIELDS = ("workflow_type", "workflow_params", "retry_strategy", "max_retries", "retry_delay", "timeout")
_ENDED = {
    ExecutionStatus.COMPLETED: TaskExecutionStatus.COMPLETED,
    ExecutionStatus.FAILED: TaskExecutionStatus.FAILED,
    ExecutionStatus.CANCELLED: TaskExecutionStatus.CANCELLED,
    ExecutionStatus.TIMEOUT: TaskExecutionStatus.TIMEOUT,
}


def already(status: TaskExecutionStatus) -> str:
    """Why an execution is not cancelled that has ended."""
    return f"Execution already completed with status: {status}"


def status_of(execution: TaskExecution, view: RunView | None, now: datetime) -> TaskExecutionStatus:
    """The status of an execution; `view` of its run, if it has one."""
    if execution.status in _ENDED:
        return _ENDED[execution.status]
    if execution.status == ExecutionStatus.QUEUED:
        is_later = execution.scheduled_at is not None and execution.scheduled_at > now
        return TaskExecutionStatus.SCHEDULED if is_later else TaskExecutionStatus.PENDING
    if view is None:
        return TaskExecutionStatus.PREPARING
    if view.has_ended:
        return TaskExecutionStatus.RUNNING
    if view.paused:
        return TaskExecutionStatus.PAUSED
    return _status_in(view)


def _status_in(view: RunView) -> TaskExecutionStatus:
    begun = [task for _, _, task in view.tasks() if task.started or task.attempt is not None or task.completed]
    if not begun:
        return TaskExecutionStatus.PREPARING
    # Between two attempts the last one has ended, and its task has not.
    open_ = [task for task in begun if task.status == "running" and task.attempt is not None]
    waits = bool(open_) and all(task.attempt is not None and task.attempt.ended_at is not None for task in open_)
    return TaskExecutionStatus.RETRYING if waits else TaskExecutionStatus.RUNNING


def document(execution: TaskExecution, view: RunView | None, now: datetime) -> dict[str, Any]:
    """The execution in all answers. Times are in RFC 3339, statuses, priorities and strategies text."""
    data = execution.data
    status = status_of(execution, view, now)
    error = None if execution.error is None else execution.error.model_dump(mode="json")
    return {
        "execution_id": str(execution.id),
        "task_id": str(execution.task_id),
        "task_name": data["task"]["name"],
        "execution_number": execution.execution_number,
        "status": status,
        "priority": data["priority"],
        **{name: data[name] for name in _FIELDS},
        "dependencies": list(data["dependencies"]),
        "metadata": data["metadata"],
        "project": execution.owner,
        "scheduled_time": _text(execution.scheduled_at),
        "created_at": _text(execution.created_at),
        "started_at": _text(execution.started_at),
        "completed_at": _text(execution.completed_at),
        "duration_seconds": execution.duration_seconds,
        "retry_count": retries_of(execution, view),
        "executor": execution.executor_id,
        "run_id": None if outcome_in(execution) is not None else execution.run_id,
        "result": execution.result,
        "error": execution.error_message,
        "error_details": error,
        "reason": execution.cancel_reason or execution.reason or _waits_for(execution),
        "status_history": history(execution, view, status),
    }


def _waits_for(execution: TaskExecution) -> str | None:
    if execution.status != ExecutionStatus.QUEUED or not execution.waiting:
        return None
    return f"waits for {execution.waiting} of its {len(execution.data['dependencies'])} dependencies"


def retries_of(execution: TaskExecution, view: RunView | None) -> int | None:
    """How often its work was repeated. Of an execution that has ended its run's final record said it, because a
    view trails the run and expires; None if neither is known."""
    if (known := execution.data.get(RETRY_COUNT)) is not None:
        return int(known)
    if execution.started_at is None or outcome_in(execution) is not None:
        return 0
    return retries_in(view)


def retries_in(view: RunView | None) -> int | None:
    """How often an attempt was repeated, at most of one member; None if the run's view is not known."""
    if view is None or not view.groups:
        return None
    return max(
        (max(task.attempts, task.attempt.number if task.attempt else 1) - 1 for _, _, task in view.tasks()),
        default=0,
    )


def history(execution: TaskExecution, view: RunView | None, status: TaskExecutionStatus) -> list[dict[str, Any]]:
    """The statuses that the execution is known to have had, with the time at which each began."""
    first = TaskExecutionStatus.PENDING
    if execution.scheduled_at is not None and execution.scheduled_at > execution.created_at:
        first = TaskExecutionStatus.SCHEDULED
    found = [(first, execution.created_at), (TaskExecutionStatus.PREPARING, execution.started_at)]
    begun = None if view is None else min(_starts(view), default=None)
    if begun is not None:
        found.append((TaskExecutionStatus.RUNNING, datetime.fromtimestamp(begun, UTC)))
    found.append((status, execution.completed_at))
    return [{"status": each, "time": _text(time)} for each, time in found if time is not None]


def _starts(view: RunView) -> Iterable[float]:
    return (task.started_at for _, _, task in view.tasks() if task.started_at is not None)


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def stored_filter(status: TaskExecutionStatus | None, now: datetime, **fields: Any) -> ExecutionFilter:
    """What the registry looks for. Which of the underway statuses an execution has, only its run says."""
    wanted = ExecutionFilter
    seconds = now.timestamp()
    if status is None:
        return wanted(kind=WORKFLOW, **fields)
    if status == TaskExecutionStatus.SCHEDULED:
        return wanted(kind=WORKFLOW, status=(ExecutionStatus.QUEUED,), scheduled_after=seconds, **fields)
    if status == TaskExecutionStatus.PENDING:
        return wanted(kind=WORKFLOW, status=(ExecutionStatus.QUEUED,), scheduled_by=seconds, **fields)
    ended = next((stored for stored, shown in _ENDED.items() if shown == status), ExecutionStatus.RUNNING)
    return wanted(kind=WORKFLOW, status=(ended,), **fields)


def statistics(
    counts: Mapping[ExecutionStatus, int],
    scheduled: int,
    underway: Iterable[TaskExecutionStatus],
    max_concurrent: int,
) -> dict[str, Any]:
    """The statistics of all executions.

    Args:
        scheduled: how many of the queued ones start at a time in the future.
        underway: the statuses of those that have a slot.
    """
    by_status = dict.fromkeys(TaskExecutionStatus, 0)
    for stored, shown in _ENDED.items():
        by_status[shown] = counts[stored]
    by_status[TaskExecutionStatus.SCHEDULED] = scheduled
    by_status[TaskExecutionStatus.PENDING] = counts[ExecutionStatus.QUEUED] - scheduled
    for status in underway:
        by_status[status] += 1
    ended = sum(by_status[each] for each in _ENDED.values())
    completed = by_status[TaskExecutionStatus.COMPLETED]
    return {
        "total_count": sum(by_status.values()),
        "status_counts": {str(each): count for each, count in by_status.items()},
        "successful_executions": completed,
        "failed_executions": by_status[TaskExecutionStatus.FAILED],
        "cancelled_executions": by_status[TaskExecutionStatus.CANCELLED],
        "timed_out_executions": by_status[TaskExecutionStatus.TIMEOUT],
        "active_executions": counts[ExecutionStatus.RUNNING],
        "success_rate": completed / ended if ended else None,
        "max_concurrent_executions": max_concurrent,
    }
