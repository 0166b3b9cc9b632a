"""The rows of a run and its tasks, made from its document. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anabranch.core.search_terms import MAX_WORDS, words
from anabranch.core.wire.run_view import RunView, TaskView
from anabranch.ports.history import Row
from anabranch_eventmanager.projection.documents import Document

MAX_ERRORS = 20
"""Failures of a run whose words are found."""
MAX_TASK_NAMES = 100
"""Tasks of a run whose names are found."""


def run_row(run: Document, view: RunView) -> Row:
    """The row of a run, but for its `state`."""
    document = view.to_document()
    del document["groups"]
    costs = view.costs or {}
    started, ended = view.started_at, view.ended_at
    return {
        "run_id": view.run_id,
        "request_id": view.request_id,
        "session_id": view.session_id,
        "project": view.project,
        "name": view.name,
        "status": view.status,
        "paused": view.paused,
        "submitted_at": view.submitted_at,
        "started_at": started,
        "ended_at": ended,
        "duration": None if started is None or ended is None else max(0.0, ended - started),
        "ordered_at": float(view.submitted_at or view.last_fact_at or 0.0),
        "retry_of": view.retry_of,
        "parent": (view.parent or {}).get("run_id"),
        "definition": (view.definition or {}).get("name"),
        "schedule": (view.schedule or {}).get("id"),
        "tasks": view.tasks_total,
        "failures": view.failure_count,
        "usd": costs.get("usd"),
        "tokens": costs.get("tokens"),
        "labels": view.labels,
        "search": run.get("search") or {},
        "words": _words(view),
        "view": document,
    }


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


def _words(view: RunView) -> str:
    """The words of the names and errors of a run, with a space around each."""
    found = words(_texts(view))[:MAX_WORDS]
    return f" {' '.join(found)} " if found else ""


def _texts(view: RunView) -> Iterator[str]:
    yield view.name or ""
    yield (view.definition or {}).get("name") or ""
    for failure in view.failures[:MAX_ERRORS]:
        yield failure.get("error_type") or ""
        yield failure.get("message") or ""
    for number, (group, name, _) in enumerate(view.tasks()):
        if number == MAX_TASK_NAMES:
            return
        yield group
        yield name
