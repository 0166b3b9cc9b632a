"""What the executions of a period add up to. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from anabranch.core.tasks.kinds import DERIVED, ExecutionStatus, TaskStatus
from anabranch.core.tasks.models import Task, TaskExecution

TOP = 10
"""Entries of the lists of the slowest and the most failed tasks."""
_FAILED = (ExecutionStatus.FAILED, ExecutionStatus.TIMEOUT)
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def spread_of(values: Iterable[float | None]) -> dict[str, float | int | None]:
    """The number, mean, nearest-rank percentiles and maximum of the values that are known."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return {"count": 0, "mean": None, **dict.fromkeys(_QUANTILES), "max": None}
    ranks = {name: known[max(0, math.ceil(part * len(known)) - 1)] for name, part in _QUANTILES.items()}
    return {"count": len(known), "mean": math.fsum(known) / len(known), **ranks, "max": known[-1]}


def total_of(values: Iterable[float | None]) -> float | None:
    """The sum of the values that are known; None if none is: nothing measured is not zero."""
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None


def wait_of(execution: TaskExecution) -> float | None:
    """Seconds from its creation to its start; None if it has not started."""
    if execution.started_at is None:
        return None
    return (execution.started_at - execution.created_at).total_seconds()


def summary_of(executions: Sequence[TaskExecution]) -> dict[str, Any]:
    """Counts, rates, durations, waits and costs of executions."""
    counts = Counter(each.status for each in executions)
    ended = counts[ExecutionStatus.COMPLETED] + sum(counts[each] for each in _FAILED)
    tokens = [each.resource_usage.tokens for each in executions]
    return {
        "executions": len(executions),
        **{str(status): counts[status] for status in ExecutionStatus},
        "success_rate": counts[ExecutionStatus.COMPLETED] / ended if ended else None,
        "duration_seconds": spread_of(each.duration_seconds for each in executions),
        "wait_seconds": spread_of(wait_of(each) for each in executions),
        "retries": sum(each.execution_number > 1 for each in executions),
        "usd": total_of(each.resource_usage.usd for each in executions),
        "tokens": None if total_of(tokens) is None else sum(each or 0 for each in tokens),
    }


def system_metrics(
    counts: Mapping[TaskStatus, int],
    running: int,
    executions: Sequence[TaskExecution],
    window: timedelta,
    max_concurrent_tasks: int,
) -> dict[str, Any]:
    """How much runs now, and how much ended in the last time.

    Args:
        counts: tasks by stored status.
        running: executions that hold a slot.
        executions: those that ended within `window`.
    """
    minutes = window.total_seconds() / 60
    durations = spread_of(each.duration_seconds for each in executions)
    ended = Counter(each.status for each in executions)
    failed = sum(ended[each] for each in _FAILED)
    done = ended[ExecutionStatus.COMPLETED] + failed
    return {
        "concurrent_tasks": running,
        "max_concurrent_tasks": max_concurrent_tasks,
        "queued_tasks": counts.get(TaskStatus.READY, 0),
        "total_tasks": sum(counts.values()),
        "tasks_per_minute": len(executions) / minutes,
        "average_duration_seconds": durations["mean"] or 0.0,
        "success_rate": ended[ExecutionStatus.COMPLETED] / done if done else None,
        "error_rate": failed / done if done else None,
        "window_seconds": window.total_seconds(),
    }


def queue_statistics(
    counts: Mapping[TaskStatus, int], waiting: Sequence[Task], now: datetime, max_concurrent_tasks: int
) -> dict[str, Any]:
    """Tasks by status, and what waits.

    Args:
        waiting: tasks that have not started.
    """
    blocked = [each for each in waiting if each.reason is not None]
    oldest = min((each.created_at for each in waiting if each.status == TaskStatus.READY), default=None)
    by_priority = Counter(each.priority.name.lower() for each in waiting)
    return {
        **{f"{status}_tasks": counts.get(status, 0) for status in TaskStatus if status not in DERIVED},
        "total_tasks": sum(counts.values()),
        "blocked_tasks": len(blocked),
        "waiting_by_priority": dict(sorted(by_priority.items())),
        "waiting_by_type": dict(sorted(Counter(str(each.task_type) for each in waiting).items())),
        "reasons": dict(sorted(Counter(str(each.reason) for each in blocked).items())),
        "oldest_ready_seconds": None if oldest is None else (now - oldest).total_seconds(),
        "max_concurrent_tasks": max_concurrent_tasks,
    }


def performance_report(
    executions: Sequence[TaskExecution], tasks: Mapping[str, Task], now: datetime, since: datetime | None = None
) -> dict[str, Any]:
    """What executions add up to: all, by agent, by type and by priority.

    Args:
        tasks: those of the executions, by id.
    """
    by_type: dict[str, list[TaskExecution]] = defaultdict(list)
    by_agent: dict[str, list[TaskExecution]] = defaultdict(list)
    by_priority: dict[str, list[TaskExecution]] = defaultdict(list)
    for each in executions:
        if each.executor_id is not None:
            by_agent[each.executor_id].append(each)
        if (task := tasks.get(str(each.task_id))) is not None:
            by_type[str(task.task_type)].append(each)
        by_priority[each.priority.name.lower()].append(each)
    return {
        "report_timestamp": now.isoformat(),
        "since": None if since is None else since.isoformat(),
        "summary": summary_of(executions),
        "agent_metrics": _summaries(by_agent),
        "type_metrics": _summaries(by_type),
        "priority_metrics": _summaries(by_priority),
        "resource_metrics": _resources_of(executions),
        "slowest_tasks": _slowest(executions, tasks),
        "most_failed_tasks": _most_failed(executions, tasks),
    }


def _summaries(groups: Mapping[str, Sequence[TaskExecution]]) -> dict[str, Any]:
    return {name: summary_of(groups[name]) for name in sorted(groups)}


def _resources_of(executions: Sequence[TaskExecution]) -> dict[str, Any]:
    usages = [each.resource_usage for each in executions]
    return {
        "cpu_percent": spread_of(each.cpu_percent for each in usages),
        "memory_mb": spread_of(each.memory_mb for each in usages),
        "cpu_seconds": total_of(each.cpu_seconds for each in usages),
        "busy_seconds": total_of(each.duration_seconds for each in executions),
        "usd": total_of(each.usd for each in usages),
    }


def _slowest(executions: Sequence[TaskExecution], tasks: Mapping[str, Task]) -> list[dict[str, Any]]:
    ended = [(each.duration_seconds, each) for each in executions]
    known = sorted(
        ((seconds, each) for seconds, each in ended if seconds is not None),
        key=lambda pair: (-pair[0], str(pair[1].id)),
    )
    return [
        {
            "task_id": str(each.task_id),
            "execution_id": str(each.id),
            "name": _name_of(each, tasks),
            "duration_seconds": seconds,
        }
        for seconds, each in known[:TOP]
    ]


def _most_failed(executions: Sequence[TaskExecution], tasks: Mapping[str, Task]) -> list[dict[str, Any]]:
    failures: dict[str, list[TaskExecution]] = defaultdict(list)
    for each in executions:
        if each.status in _FAILED:
            failures[str(each.task_id)].append(each)
    most = sorted(failures.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {
            "task_id": task_id,
            "name": _name_of(found[0], tasks),
            "failures": len(found),
            "error_message": max(found, key=lambda each: each.execution_number).error_message,
        }
        for task_id, found in most[:TOP]
    ]


def _name_of(execution: TaskExecution, tasks: Mapping[str, Task]) -> str | None:
    task = tasks.get(str(execution.task_id))
    return None if task is None else task.name
