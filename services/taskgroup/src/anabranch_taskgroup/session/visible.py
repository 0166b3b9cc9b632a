"""The values that a step sees: those of its dependencies. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from anabranch_taskgroup.session.keys import lookup_of
from anabranch_taskgroup.session.loop_values import names_of_loops
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.task_state import Task


def visible_values(run: Run, task: Task) -> dict[str, Value]:
    """The values of a task's dependencies, by key; absent ones, and the ends of other tasks, are left out."""
    found: dict[str, Value] = {}
    look_up = run.values.get if task.order.in_loop is None else lookup_of(run, task)
    for need in task.order.needs:
        if isinstance(value := look_up(need.key), Value) and need.kind != "task":
            found[need.key] = value
    return found


def readable_values(run: Run, task: Task) -> dict[str, Value]:
    """What the conditions and the arrays of a step may read: the values of its dependencies, and in a loop body
    what its loops provide."""
    found = visible_values(run, task)
    return found if task.order.in_loop is None else found | names_of_loops(run, task)


def is_under(key: str, paths: Iterable[str]) -> bool:
    """True if one of the paths leads to the value of a key, or into it."""
    return any(path == key or path.startswith(f"{key}.") for path in paths)
