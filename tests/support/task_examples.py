"""Tasks and executions with given ids and times, for tests of pure decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from anabranch.core.tasks.decisions import queued
from anabranch.core.tasks.models import Task, TaskExecution

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def id_of(number: int) -> UUID:
    """The id of the task with this number."""
    return UUID(int=number)


def task(number: int = 1, depends_on: tuple[int, ...] = (), **fields: Any) -> Task:
    """A task that was created `number` seconds after NOW."""
    created = NOW + timedelta(seconds=number)
    given = {"name": f"task {number}", "created_at": created, "updated_at": created, **fields}
    return Task.model_validate({"id": id_of(number), "depends_on": set(map(id_of, depends_on)), **given})


def execution(number: int = 1, of: Task | None = None, **fields: Any) -> TaskExecution:
    """A queued execution of a task."""
    _, made = queued(of or task(number), id_of(1000 + number), NOW)
    return made.model_copy(update=fields)
