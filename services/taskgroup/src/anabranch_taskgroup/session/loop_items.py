"""The items of a loop with `each`: out of the owner's state, or read from the store by the shell. Pure.

A list in the owner's state is looked up for each iteration, and not copied. Of a list in the store the shell
appends a few items at a time to the log (LoopItems), so they are part of the fold.
"""

from __future__ import annotations

from typing import NamedTuple

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.members import as_list, lookup_path
from anabranch.core.wire.messages import LoopItems
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.task_state import LoopPhase, LoopState, Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.visible import is_under, readable_values


class NextItem(NamedTuple):
    """The item of the next iteration: None if there is none; not known while the shell has to read it."""

    item: Value | None = None
    is_known: bool = True
    error: str | None = None


def next_item(turn: Turn, run: Run, task: Task) -> NextItem:
    """The item of a loop's next iteration."""
    loop, spec = _loop(task), task.order.loop
    assert spec is not None
    assert spec.each is not None
    if stored_list(run, task) is not None:
        at = loop.number - loop.items_from
        if 0 <= at < len(loop.items):
            return NextItem(Value(loop.items[at]))
        return NextItem(is_known=loop.has_all_items)
    data = {key: value.data for key, value in readable_values(run, task).items()}
    try:
        items = spec.each if isinstance(spec.each, list) else as_list(lookup_path(data, spec.each), "each")
    except KeyError:
        return NextItem(error=f"`each` of the loop has no list: there is no value at {spec.each!r}")
    except ExpansionError as error:
        return NextItem(error=str(error))
    return NextItem(Value(items[loop.number]) if loop.number < len(items) else None)


def stored_list(run: Run, task: Task) -> tuple[str, Value] | None:
    """The name and reference of the value in the store that has the items; None if they are in the owner's
    state."""
    spec = task.order.loop
    if spec is None or not isinstance(spec.each, str):
        return None
    found = [(name, value) for name, value in readable_values(run, task).items() if is_under(name, (spec.each,))]
    # As paths are looked up: the longest part that is a name.
    name, value = max(found, key=lambda pair: len(pair[0]), default=("", Value(None)))
    return (name, value) if value.is_reference else None


def is_awaited(task: Task, message: LoopItems) -> bool:
    """True if a loop waits for these items."""
    loop = task.loop
    return (
        loop is not None
        and not task.is_over
        and loop.phase is LoopPhase.READING
        and message.iteration == task.iteration
        and message.start == loop.number
    )


def take_items(turn: Turn, task: Task, message: LoopItems) -> bool:
    """The shell has read items; returns False if they are not those that the loop waits for."""
    if not is_awaited(task, message):
        turn.partition.drop("items of a loop read before")
        return False
    loop = _loop(task)
    loop.items, loop.items_from, loop.has_all_items = list(message.items), message.start, message.last
    return True


def _loop(task: Task) -> LoopState:
    assert task.loop is not None
    return task.loop
