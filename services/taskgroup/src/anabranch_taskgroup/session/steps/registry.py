"""The kinds of steps, by name. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.steps.kind import Step, StepKind
from anabranch_taskgroup.session.steps.loop import LoopKind
from anabranch_taskgroup.session.steps.sub_run import RunKind
from anabranch_taskgroup.session.steps.switch import SwitchKind
from anabranch_taskgroup.session.steps.task import TaskKind
from anabranch_taskgroup.session.steps.wait import WaitKind
from anabranch_taskgroup.session.task_state import Task

KINDS = (TaskKind(), SwitchKind(), LoopKind(), WaitKind(), RunKind())
STEP_KINDS: Mapping[str, StepKind] = {kind.name: kind for kind in KINDS}


def kind_of(task: Task) -> StepKind:
    """The kind of a step."""
    return STEP_KINDS[task.order.kind]


def open_steps(run: Run) -> Iterator[Step]:
    """The steps of a run that have not ended, in the order of the request; a copy, so that steps may end
    meanwhile."""
    for group in list(run.groups.values()):
        if group.unfinished:
            yield from [Step(run, group, task) for task in group.tasks.values() if task.is_open]
