"""Expands a task into members: the arrays come from the values of its dependencies. Pure.

Arrays in the owner's state are expanded at once. Arrays in the store are counted by the shell (`CountArrays`), and
the count comes back as a message, so it is part of the fold.
"""

from __future__ import annotations

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.members import Expanded, expand
from anabranch_taskgroup.session.arrays import array_paths as array_paths
from anabranch_taskgroup.session.arrays import array_values, arrays_of
from anabranch_taskgroup.session.arrays import has_large_array as has_large_array
from anabranch_taskgroup.session.endings import complete, end, fail
from anabranch_taskgroup.session.merge import empty_join, predicted_problem
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskEvent
from anabranch_taskgroup.session.steps.joins import run_members
from anabranch_taskgroup.session.task_state import Skip, Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.visible import readable_values


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
    large = [value for value in array_values(run, task) if value.is_reference]
    return sum(int(value.data["bytes"]) for value in large) / task.total


def refuse_expansion(turn: Turn, run: Run, task: Task, message: str) -> None:
    """The arrays make no valid expansion: the task fails, and the run continues."""
    fail(turn, run, task, TaskEvent.EXPANSION_REFUSED, "ExpansionError", message)
