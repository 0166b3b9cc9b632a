"""The rows of a run and its tasks, made from its document. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from anabranch.core.run_filter import list_order
from anabranch.core.run_search import row_of
from anabranch.core.wire.run_view import RunView, TaskView, member_counts
from anabranch.ports.history import Row


def run_row(view: RunView) -> Row:
    """The row of a run, but for its `state`."""
    document = replace(view, groups={}, counts=member_counts(view)).to_document()
    del document["groups"]
    return row_of(view) | {"ordered_at": list_order(view)[0], "view": document}


def task_row(run_id: str, group: str, name: str, task: TaskView, attempts: dict[str, Any] | None) -> Row:
    """The row of a task. `attempts`: its state, see `attempts`; None for a task without any."""
    costs, state = task.costs or {}, attempts or {}
    return {
        "run_id": run_id,
        "group": group,
        "task": name,
        "status": task.status,
        "agent": state.get("agent"),
        "started_at": task.started_at,
        "ended_at": task.ended_at,
        "members": task.members,
        "completed": task.completed,
        "failed": task.failed,
        "attempts_ended": state.get("ended", 0),
        "attempts_failed": state.get("failed", 0),
        "seconds": state.get("seconds", 0.0),
        "usd": costs.get("usd"),
        "tokens": costs.get("tokens"),
    }
