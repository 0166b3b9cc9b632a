"""The request of a fork, and the tasks that it names: the gateway checks both as the owner of the run does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.project import project_named

TIMES = ("not_before", "deadline")
"""Fields of a request with the times of one run, which a retry or fork does not inherit."""

TaskId = tuple[str, str]
"""Group and task."""


def fork_document(
    first: Mapping[str, Any], session_id: str, request: Mapping[str, Any] | None, values: Mapping[str, Any]
) -> dict[str, Any]:
    """The request of a fork: in the session and the project of the run that it is forked from.

    Args:
        first: the request of that run.
        session_id: the session of that run.
        request: a request in place of it; None: the same.
        values: values that replace those of its context.

    Raises:
        RequestRefused: the request names another project.
    """
    document = dict(request or {name: value for name, value in first.items() if name not in TIMES})
    project = project_named(first)
    if request is not None and request.get("project") not in (None, project):
        problem = Problem(Code.SCHEMA, "/request/project", f"a fork stays in the project {project!r}")
        raise RequestRefused([problem])
    context = document.get("context")
    document["context"] = {**(context if isinstance(context, Mapping) else {}), **values}
    document.pop("request_id", None)
    return document | {"session_id": session_id, "project": project}


def fork_points(tasks: Collection[TaskId], names: Sequence[str]) -> set[TaskId]:
    """The tasks with these names, `task` or `group/task`.

    Raises:
        RequestRefused: no task has one of the names.
    """
    found: set[TaskId] = set()
    unknown = []
    for name in names:
        group, slash, task = name.partition("/")
        matching = {place for place in tasks if (place == (group, task) if slash else place[1] == name)}
        found |= matching
        if not matching:
            unknown.append(name)
    if unknown:
        message = f"the request has no task {', '.join(map(repr, unknown))}"
        raise RequestRefused([Problem(Code.SCHEMA, "/from", message, "name a task, or group/task")])
    return found
