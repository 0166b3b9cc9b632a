"""The values that a step sees: those of its dependencies. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from anabranch_taskgroup.session.keys import lookup_of
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.task_state import Task


def visible_values(run: Run, task: Task) -> dict[str, Value]:
    """The values of a task's dependencies, by key; absent ones, and the ends of other tasks, are left out."""
    found: dict[str, Value] = {}
    look_up = lookup_of(run, task)
    for need in task.order.needs:
        if isinstance(value := look_up(need.key), Value) and need.kind != "task":
            found[need.key] = value
    return found


def is_under(key: str, paths: Iterable[str]) -> bool:
    """True if one of the paths leads to the value of a key, or into it."""
    return any(path == key or path.startswith(f"{key}.") for path in paths)
