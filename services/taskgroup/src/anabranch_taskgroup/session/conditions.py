"""Evaluates the conditions of a step over the values of its dependencies, once all of these are settled. Pure.

Values in the owner's state are compared at once. If one of them is in the store, the shell evaluates the
conditions (`JudgeConditions`) and appends the outcome to the log as a ConditionJudged message, which is then part
of the fold: the first one counts, and each owner decides by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from anabranch.core.conditions import evaluate, fields_of, why_false
from anabranch.core.errors import ConditionError
from anabranch.core.templates import MISSING, Path
from anabranch.core.wire.messages import Json
from anabranch_taskgroup.session.loop_values import names_for_conditions
from anabranch_taskgroup.session.phase_values import names_of_phase
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import JudgeConditions, Turn
from anabranch_taskgroup.session.visible import is_under, readable_values

WHEN = "when"
"""The purpose of the condition under which a step begins."""
SWITCH = "switch"
"""The purpose of the cases of a switch."""
WAIT = "wait"
"""The purpose of the condition that ends a wait; with the number of the change after which it is evaluated."""
MAX_BECAUSE = 300
"""Characters of an explanation at most."""


class Judgement(NamedTuple):
    """The outcome of conditions that are evaluated in order: the number of the first that is true, from 0.

    Attributes:
        case: -1 if none is true.
        because: why none is true.
        error: why they cannot be evaluated; None if they can.
    """

    case: int
    because: str = ""
    error: str | None = None


def _when(task: Task) -> Sequence[Json]:
    return (task.order.when,)


def _cases(task: Task) -> Sequence[Json]:
    assert task.order.switch is not None
    return task.order.switch.cases


def _while(task: Task) -> Sequence[Json]:
    return () if task.order.loop is None else (task.order.loop.while_,)


def _wait(task: Task) -> Sequence[Json]:
    return () if task.order.wait is None else (task.order.wait.condition,)


def _until(task: Task) -> Sequence[Json]:
    return () if task.order.loop is None else (task.order.loop.until,)


_CONDITIONS: Mapping[str, Callable[[Task], Sequence[Json]]] = {
    WHEN: _when,
    SWITCH: _cases,
    WAIT: _wait,
    "while": _while,
    "until": _until,
}


def conditions_of(task: Task, purpose: str) -> Sequence[Json]:
    """The conditions of a step for a purpose, in the order in which they are evaluated. The purpose of a loop's
    ones has the number of the iteration."""
    return _CONDITIONS[_kind(purpose)](task)


def _kind(purpose: str) -> str:
    return purpose.partition(" ")[0]


def judge(turn: Turn, run: Run, task: Task, purpose: str) -> Judgement | None:
    """Evaluate the conditions of a step; None if the shell has to read values first, whose outcome is a
    message."""
    values = values_for(run, task, purpose)
    if references_in(values, conditions_of(task, purpose)):
        task.judging = purpose
        turn.effects.append(JudgeConditions(run.run_id, task.group, task.name, purpose))
        return None
    return judged_for(task, purpose, {key: value.data for key, value in values.items()})


def values_for(run: Run, task: Task, purpose: str) -> dict[str, Value]:
    """The values over which conditions of a purpose are evaluated, by key."""
    if _kind(purpose) != WAIT:
        return condition_values(run, task)
    return {} if task.waits is None else {key: Value(*seen) for key, seen in task.waits.seen.items()}


def judged_for(task: Task, purpose: str, data: Mapping[str, Any]) -> Judgement:
    """Evaluate conditions of a purpose over plain values. A wait goes on while one of its paths has no value."""
    conditions = conditions_of(task, purpose)
    found = judged(conditions, data)
    if found.error is None or _kind(purpose) != WAIT:
        return found
    paths = [path for condition in conditions for path in fields_of(condition)]
    return Judgement(-1) if any(Path(path).find(data) is MISSING for path in paths) else found


def condition_values(run: Run, task: Task) -> dict[str, Value]:
    """The values that conditions of a step may read, by key; absent ones are left out."""
    found = readable_values(run, task)
    if task.loop is not None:
        found |= names_for_conditions(run, task)
    return found if run.outcome is None else found | names_of_phase(run, task)


def references_in(values: Mapping[str, Value], conditions: Sequence[Json]) -> list[str]:
    """The keys that conditions read and whose values are in the store."""
    stored = [key for key, value in values.items() if value.is_reference]
    if not stored:
        return stored
    paths = [path for condition in conditions for path in fields_of(condition)]
    return [key for key in stored if is_under(key, paths)]


def judged(conditions: Sequence[Json], data: Mapping[str, Any]) -> Judgement:
    """Evaluate conditions over plain values until one is true."""
    for number, condition in enumerate(conditions):
        try:
            if evaluate(condition, data):
                return Judgement(number)
        except ConditionError as error:
            return Judgement(-1, error=str(error))
    return Judgement(-1, "; ".join(why_false(condition, data) for condition in conditions)[:MAX_BECAUSE])
