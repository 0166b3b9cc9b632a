"""What the tasks of a loop body see of their loops, and a loop's conditions of its own iterations. Pure.

    iteration     the number of the running iteration, from 0
    item          its item, in a loop with `each`
    state         an object: the states before the iteration
    last          an object: the values of the iteration before; empty in the first one

The names of an inner loop hide those of the loops around it, but a state only the state of the same name. A value
that is in the store is no field of these objects but has a name of its own: `state.draft`, `last.draft`. Paths are
looked up by their longest part that is a name, so it makes no difference where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anabranch_taskgroup.session.keys import loops_around
from anabranch_taskgroup.session.state import Absent, Run, Value
from anabranch_taskgroup.session.task_state import LoopPhase, LoopState, Task


def names_of_loops(run: Run, task: Task) -> dict[str, Value]:
    """What a task of a loop body sees of its loops."""
    names: dict[str, Value] = {}
    for _, loop in reversed(list(loops_around(run, task))):
        _add_names(names, loop, loop.state)
    return names


def names_for_conditions(run: Run, task: Task) -> dict[str, Value]:
    """What the conditions of a loop see: its own names besides, and the keys of its body.

    `until` is evaluated after an iteration: it sees the keys of that one, and `last` is the one before. `while` is
    evaluated before an iteration, which sees no further keys than those of the last one. Both see the present
    states.
    """
    names = names_of_loops(run, task)
    loop = task.loop
    assert loop is not None
    _add_names(names, loop, present_states(loop))
    own = loop.values if loop.phase is LoopPhase.ENDING else loop.last
    return names | values_in(own)


def present_states(loop: LoopState) -> dict[str, Value]:
    """The states of a loop with those that the iteration has written whose tasks have ended."""
    if loop.phase is not LoopPhase.ENDING:
        return loop.state
    return loop.state | {name: found for name, found in values_in(loop.values).items() if name in loop.state}


def values_in(known: Mapping[str, Value | Absent]) -> dict[str, Value]:
    """The keys that have a value, without the ends of tasks."""
    return {key: value for key, value in known.items() if isinstance(value, Value) and not key.startswith("{")}


def _add_names(names: dict[str, Value], loop: LoopState, state: Mapping[str, Value]) -> None:
    names["iteration"] = Value(loop.number)
    if loop.item is not None:
        names["item"] = loop.item
    outer: dict[str, Any] = dict(names["state"].data) if "state" in names else {}
    for name in state:
        outer.pop(name, None)
        names.pop(f"state.{name}", None)
    _add_object(names, "state", outer, state)
    for name in [name for name in names if name.startswith("last.")]:
        del names[name]
    _add_object(names, "last", {}, loop.last)


def _add_object(names: dict[str, Value], name: str, fields: dict[str, Any], values: Mapping[str, Value]) -> None:
    for key, value in values.items():
        if value.is_reference:
            names[f"{name}.{key}"] = value
        else:
            fields[key] = value.data
    names[name] = Value(fields)
