"""Reads documents of tasks and changes, with every problem and its path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ValidationError

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.request.envelope import json_pointer
from anabranch.core.tasks.models import TaskChanges, TaskDraft

MAX_CREATED = 10_000
"""Tasks that one call creates, at most."""
Draft = tuple[UUID | None, TaskDraft]
"""A task to create, with its id if the caller has made it."""


@dataclass(frozen=True, slots=True)
class NewTasks:
    """What a document creates. `are_many`: it has a list of tasks."""

    drafts: Sequence[Draft]
    are_many: bool


class _Named(BaseModel):
    id: UUID | None = None


def read_new_tasks(document: Any, created_by: str | None = None) -> NewTasks:
    """Read a task, or `{"tasks": [...]}`; both may have a `project`, which is not read here.

    Args:
        created_by: who creates them; None: whom the document names.

    Raises:
        RequestRefused: the document is invalid.
    """
    if not isinstance(document, Mapping):
        raise _refused("", "a task is an object")
    if "tasks" not in document:
        return NewTasks([_draft(_without(document, "project"), created_by, ())], are_many=False)
    if unknown := sorted(set(document) - {"tasks", "project"}):
        raise _refused(f"/{unknown[0]}", "beside `tasks` there is only `project`")
    given = document["tasks"]
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_CREATED:
        raise _refused("/tasks", f"must be a list of 1 to {MAX_CREATED:,} tasks")
    drafts = [_draft(each, created_by, ("tasks", place)) for place, each in enumerate(given)]
    return NewTasks(drafts, are_many=True)


def read_changes(document: Any) -> dict[str, Any]:
    """The changed fields of a task, with their types. Raises RequestRefused."""
    with validated():
        return TaskChanges.model_validate(document).model_dump(exclude_unset=True)


@contextmanager
def validated(prefix: Sequence[str | int] = ()) -> Iterator[None]:
    """Turns the errors of a model into RequestRefused with one problem for each field."""
    try:
        yield
    except ValidationError as error:
        problems = [
            Problem(_code(each["type"]), json_pointer((*prefix, *each["loc"])), each["msg"])
            for each in error.errors()
        ]
        raise RequestRefused(problems) from error


def _code(kind: str) -> str:
    return str(Code.UNKNOWN_FIELD if kind == "extra_forbidden" else Code.SCHEMA)


def _draft(given: Any, created_by: str | None, prefix: Sequence[str | int]) -> Draft:
    if not isinstance(given, Mapping):
        raise _refused(json_pointer(tuple(prefix)), "a task is an object")
    fields = _without(given, "id")
    if created_by is not None:
        fields["created_by"] = created_by
    with validated(prefix):
        return _Named.model_validate({"id": given.get("id")}).id, TaskDraft.model_validate(fields)


def _without(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != name}


def _refused(path: str, message: str) -> RequestRefused:
    return RequestRefused([Problem(str(Code.SCHEMA), path, message)])
