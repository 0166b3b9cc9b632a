"""What the run of an execution shows: its status for people, and what its worker measured and its agent logged."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

from anabranch.core.tasks.kinds import TaskStatus
from anabranch.core.tasks.models import ExecutionLog, TaskExecution
from anabranch.core.wire.run_view import RunView
from anabranch.sdk.client import Client

Execution = TypeVar("Execution", bound=TaskExecution)

MEGABYTE = 1024 * 1024


def status_in(view: RunView | None) -> TaskStatus:
    """The status of a running task, from the view of its run."""
    if view is None or view.has_ended:
        return TaskStatus.RUNNING
    if view.paused:
        return TaskStatus.PAUSED
    attempts = [
        task.attempt
        for group in view.groups.values()
        for task in group.tasks.values()
        if task.status == "running" and task.attempt is not None
    ]
    # Between two attempts the last one has ended, and the task has not.
    return TaskStatus.RETRYING if any(each.ended_at is not None for each in attempts) else TaskStatus.RUNNING


async def observe(client: Client, execution: Execution) -> Execution:
    """The execution with its resource usage and log lines, read from the events of its run. Those of a run that is
    older than the events topic keeps are empty."""
    run = await client.run(execution.run_id)
    usage: dict[str, Any] = {}
    logs: list[ExecutionLog] = []
    async for event in run.events(until_now=True):
        if event["type"] == "task.log":
            logs += _lines_of(event)
        for name in ("cpu_seconds", "peak_memory_bytes"):
            if event.get(name) is not None:
                usage[name] = event[name]
    return execution.model_copy(update={"logs": logs, "resource_usage": _usage(execution, usage)})


def _lines_of(event: dict[str, Any]) -> list[ExecutionLog]:
    lines = event.get("lines")
    found = lines if isinstance(lines, list) else [event]
    return [
        ExecutionLog(
            timestamp=datetime.fromtimestamp(_seconds(line, event), UTC),
            level=str(line.get("level") or "info"),
            message=str(line.get("message") or ""),
            fields=line.get("fields") or {},
        )
        for line in found
    ]


def _seconds(line: dict[str, Any], event: dict[str, Any]) -> float:
    time = line.get("time") or event.get("time")
    if isinstance(time, str):
        return datetime.fromisoformat(time).timestamp()
    return float(time or 0.0)


def _usage(execution: TaskExecution, measured: dict[str, Any]) -> Any:
    usage = execution.resource_usage
    seconds, memory = measured.get("cpu_seconds"), measured.get("peak_memory_bytes")
    duration = usage.duration_seconds
    return usage.model_copy(
        update={
            "cpu_seconds": seconds,
            "cpu_percent": round(100 * seconds / duration, 3) if seconds is not None and duration else None,
            "memory_mb": None if memory is None else round(memory / MEGABYTE, 3),
        }
    )
