"""Evaluates conditions over values in the store: the answer is a record, which the session's owner decides by."""

from __future__ import annotations

from anabranch.core.names import Names
from anabranch.core.wire.messages import ConditionJudged
from anabranch.ports import StateStore
from anabranch.runtime.reading.values import resolve
from anabranch_taskgroup.session.conditions import (
    Judgement,
    conditions_of,
    judged_for,
    references_in,
    values_for,
)
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Task


async def judge_stored(store: StateStore, names: Names, run: Run, task: Task, purpose: str) -> Judgement:
    """Evaluate the conditions of a step, which compare values in the store.

    Raises:
        ValueGone: one of the values is no longer in the store.
    """
    # A copy: the values that a wait sees may change while others are read.
    found = dict(values_for(run, task, purpose))
    data = {key: value.data for key, value in found.items()}
    for key in references_in(found, conditions_of(task, purpose)):
        data[key] = await resolve(store, names, found[key].data, within=run.session_id)
    return judged_for(task, purpose, data)


def answer(run: Run, task: Task, purpose: str, found: Judgement) -> ConditionJudged:
    """The record of an outcome."""
    return ConditionJudged(
        run_id=run.run_id,
        group=task.group,
        task=task.name,
        iteration=task.iteration,
        purpose=purpose,
        case=found.case,
        because=found.because,
        error=found.error,
        admission=run.admission,
    )
