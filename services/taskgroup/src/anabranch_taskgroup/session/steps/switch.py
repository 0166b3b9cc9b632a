"""The kind of step that chooses a case: the first whose condition is true. Pure.

It has no members. Its choice is the value of its outcome key (`names.outcome_name`), for which the tasks of all
cases wait: those of the chosen case begin, the others are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from anabranch.core.names import Names
from anabranch.core.reasons import Fact, Missing
from anabranch_taskgroup.session.conditions import SWITCH, Judgement, judge
from anabranch_taskgroup.session.endings import complete, fail
from anabranch_taskgroup.session.states import TaskEvent, next_state
from anabranch_taskgroup.session.steps.kind import Step, StepKind, Wait
from anabranch_taskgroup.session.turn import Turn

NO_CASE_MATCHED = "NoCaseMatched"


class SwitchKind(StepKind):
    """Chooses the first case whose condition is true, in the turn in which its last field is settled, and once."""

    name: ClassVar[str] = "switch"

    def begin(self, turn: Turn, step: Step) -> None:
        run, _, task = step
        task.state, task.began_at = next_state(task.state, TaskEvent.DEPENDENCIES_MET), turn.at
        if (found := judge(turn, run, task, SWITCH)) is not None:
            self.on_judgement(turn, step, SWITCH, found)

    def on_judgement(self, turn: Turn, step: Step, purpose: str, found: Judgement) -> None:
        run, _, task = step
        spec = task.order.switch
        assert spec is not None
        if found.error is not None:
            fail(turn, run, task, TaskEvent.CONDITION_REFUSED, "ConditionError", found.error)
            return
        task.choice, task.because = found.case, found.because
        if found.case < 0 and spec.has_default:
            task.choice = len(spec.cases)
        elif found.case < 0 and spec.on_no_match == "fail":
            message = f"no case is true, and there is no default: {found.because}"
            fail(turn, run, task, TaskEvent.NO_CASE, NO_CASE_MATCHED, message)
            return
        turn.event(run, "task.completed", task=task, case=task.choice, because=found.because)
        complete(turn, run, task, TaskEvent.CHOSEN, [])

    def pending(self, step: Step, names: Names) -> Iterator[Wait]:
        detail = "the values that its cases compare are being read"
        yield Wait(Missing(Fact.NEVER_PRODUCED, step.task.group, step.task.name, detail=detail))
