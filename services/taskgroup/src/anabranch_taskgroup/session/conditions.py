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


def _until(task: Task) -> Sequence[Json]:
    return () if task.order.loop is None else (task.order.loop.until,)


_CONDITIONS: Mapping[str, Callable[[Task], Sequence[Json]]] = {
    WHEN: _when,
    SWITCH: _cases,
    "while": _while,
    "until": _until,
}


def conditions_of(task: Task, purpose: str) -> Sequence[Json]:
    """The conditions of a step for a purpose, in the order in which they are evaluated. The purpose of a loop's
    ones has the number of the iteration."""
    return _CONDITIONS[purpose.partition(" ")[0]](task)


def judge(turn: Turn, run: Run, task: Task, purpose: str) -> Judgement | None:
    """Evaluate the conditions of a step; None if the shell has to read values first, whose outcome is a
    message."""
    values = condition_values(run, task)
    if references_in(values, conditions_of(task, purpose)):
        task.judging = purpose
        turn.effects.append(JudgeConditions(run.run_id, task.group, task.name, purpose))
        return None
    return judged(conditions_of(task, purpose), {key: value.data for key, value in values.items()})


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
