"""Ids of tasks, as callers give them."""

from __future__ import annotations

from uuid import UUID

from anabranch.core.tasks.errors import TaskNotFound

TaskId = UUID | str


def as_id(value: TaskId) -> UUID | None:
    """The id; None if the text is none, so that nothing has it."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except ValueError:
        return None


def required_id(value: TaskId) -> UUID:
    """The id. Raises TaskNotFound if the text is none."""
    found = as_id(value)
    if found is None:
        raise TaskNotFound("task", str(value))
    return found
