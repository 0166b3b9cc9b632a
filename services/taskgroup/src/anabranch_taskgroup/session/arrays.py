"""The arrays of a step's expansion, out of the values of its dependencies. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.members import as_list, lookup_path, sources
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.visible import is_under, readable_values


def has_large_array(run: Run, task: Task) -> bool:
    """True if an array of the expansion is in the store."""
    return any(value.is_reference for value in array_values(run, task))


def array_paths(task: Task) -> list[str]:
    """The paths of the arrays of a step's expansion; empty where it has none."""
    expansion = task.order.expansion
    return [source for source in sources(expansion).values() if isinstance(source, str)] if expansion else []


def array_values(run: Run, task: Task) -> list[Value]:
    """The values that hold the arrays of an expansion."""
    paths = array_paths(task)
    return [value for key, value in readable_values(run, task).items() if is_under(key, paths)]


def arrays_of(task: Task, data: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The arrays of an expansion, by name, out of the values of the task's dependencies.

    Raises:
        ExpansionError: a path leads nowhere, or to something other than a list.
    """
    expansion = task.order.expansion
    assert expansion is not None
    return {name: as_list(_source(data, name, source), name) for name, source in sources(expansion).items()}


def _source(data: Mapping[str, Any], name: str, source: Any) -> Any:
    if not isinstance(source, str):
        return source
    try:
        return lookup_path(data, source)
    except KeyError:
        raise ExpansionError(f"the array for {name!r} is missing: there is no value at {source!r}") from None
