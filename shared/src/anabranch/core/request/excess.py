"""Bounds the work on a request that is beyond hope: most of its groups or tasks are no objects. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def without_excess(request: Mapping[str, Any], most: int) -> Mapping[str, Any]:
    """The request without the groups and tasks that follow the first `most` ones that are no objects; the same
    request if it has no more of these.

    Each of them is an error, so further ones change nothing about an answer that lists at most `most` errors.
    """
    groups = request.get("task_groups")
    if not isinstance(groups, (list, tuple)):
        return request
    wrong = 0
    for number, group in enumerate(groups):
        # The exact type first: the check for any mapping takes ten times as long.
        if type(group) is not dict and not isinstance(group, Mapping):
            wrong += 1
        else:
            tasks = group.get("tasks")
            if not isinstance(tasks, (list, tuple)):
                tasks = ()
            for index, task in enumerate(tasks):
                if type(task) is not dict and not isinstance(task, Mapping):
                    wrong += 1
                if wrong == most:
                    return {**request, "task_groups": [*groups[:number], {**group, "tasks": tasks[: index + 1]}]}
        if wrong == most:
            return {**request, "task_groups": groups[: number + 1]}
    return request
