"""Expands a task into members: the arrays come from the values of its dependencies. Pure.

Arrays in the owner's state are expanded at once. Arrays in the store are counted by the shell (`CountArrays`), and
the count comes back as a message, so it is part of the fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.members import Expanded, as_list, expand, lookup_path, sources
from anabranch_taskgroup.session.endings import complete, end, fail
from anabranch_taskgroup.session.merge import empty_join, predicted_problem
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.states import TaskEvent
from anabranch_taskgroup.session.steps.joins import run_members
from anabranch_taskgroup.session.task_state import Skip, Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.visible import is_under, readable_values


def has_large_array(run: Run, task: Task) -> bool:
    """True if an array of the expansion is in the store."""
    return any(value.is_reference for value in _array_values(run, task))


def array_paths(task: Task) -> list[str]:
    """The paths of the arrays of a step's expansion; empty where it has none."""
    expansion = task.order.expansion
    return [source for source in sources(expansion).values() if isinstance(source, str)] if expansion else []


def _array_values(run: Run, task: Task) -> list[Value]:
    """The values that hold the arrays of an expansion."""
    paths = array_paths(task)
    return [value for key, value in readable_values(run, task).items() if is_under(key, paths)]


def expand_in_memory(turn: Turn, run: Run, task: Task) -> None:
    """Expand a task whose arrays are in the owner's state, and run its members."""
    if (expanded := expanded_in_memory(turn, run, task)) is not None and has_members(
        turn, run, task, expanded.count
    ):
        run_members(turn, run, task)


def expanded_in_memory(turn: Turn, run: Run, task: Task) -> Expanded | None:
    """The members of a task whose arrays are in the owner's state; None if they make no expansion, which ends the
    task."""
    expansion = task.order.expansion
    assert expansion is not None
    data = {key: value.data for key, value in readable_values(run, task).items()}
    try:
        expanded = expand(expansion, arrays_of(task, data), limit=run.member_limit)
    except ExpansionError as error:
        refuse_expansion(turn, run, task, str(error))
        return None
    # Before any member runs: a conflict of derived keys would otherwise cost all the work, and show at the join.
    if (problem := predicted_problem(run, task, expanded)) is not None:
        refuse_expansion(turn, run, task, problem)
        return None
    return expanded


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


def has_members(turn: Turn, run: Run, task: Task, count: int) -> bool:
    """The number of members is known: True if there are any, else the task ends as its `on_empty` says."""
    expansion = task.order.expansion
    assert expansion is not None
    task.total = count
    task.member_bytes = _member_bytes(run, task)
    turn.event(run, "task.expanded", group=task.group, task=task, count=count)
    if count:
        return True
    if expansion.on_empty == "complete":
        complete(turn, run, task, TaskEvent.EMPTY_COMPLETE, empty_join(task))
    elif expansion.on_empty == "skip":
        end(turn, run, task, TaskEvent.EMPTY_SKIP, skip=Skip("empty", "the expansion has no members"))
    else:
        message = "the expansion has no members, and on_empty says fail"
        fail(turn, run, task, TaskEvent.EMPTY_FAIL, "ExpansionError", message)
    return False


def _member_bytes(run: Run, task: Task) -> float:
    """Bytes of array items in the offer of one member, on average. Only arrays in the store count: those in the
    owner's state are below the inline limit."""
    expansion = task.order.expansion
    if expansion is None or expansion.type != "array" or not task.total:
        return 0.0
    # The size of each item is not known without reading the array, so chunks are cut by the average.
    large = [value for value in _array_values(run, task) if value.is_reference]
    return sum(int(value.data["bytes"]) for value in large) / task.total


def refuse_expansion(turn: Turn, run: Run, task: Task, message: str) -> None:
    """The arrays make no valid expansion: the task fails, and the run continues."""
    fail(turn, run, task, TaskEvent.EXPANSION_REFUSED, "ExpansionError", message)
