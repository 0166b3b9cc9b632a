"""What an open run waits for: the missing facts of each step that has not ended. Pure.

It reads the state and changes nothing. Whether a worker has claimed an offered chunk is in the store: an offered
chunk is yielded with the key of its claim, which the caller reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from anabranch.core.conditions import fields_of
from anabranch.core.names import Names, outcome_name
from anabranch.core.reasons import Fact, Missing
from anabranch_taskgroup.session.phase_table import COMPENSATE, Phase
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.steps.kind import Step, Wait
from anabranch_taskgroup.session.steps.registry import kind_of
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.visible import is_under


def producers_of(run: Run) -> dict[str, tuple[str, str]]:
    """By key of the run: (group, task) of its producer; of several producers, one that has not ended."""
    tasks = [task for group in run.groups.values() for task in group.tasks.values()]
    # The last entry of a key wins in a dict, so tasks that have not ended come last.
    tasks.sort(key=lambda task: not task.is_over)
    found = {key: (task.group, task.name) for task in tasks for key in task.order.result_keys}
    for task in tasks:
        if task.order.error_key is not None:
            found.setdefault(task.order.error_key, (task.group, task.name))
        if task.order.announces:
            found[outcome_name(task.group, task.name)] = (task.group, task.name)
    return found


def waits_of(run: Run, names: Names) -> Iterator[Wait]:
    """Yield the missing facts of a run: of its steps, of groups that lack parts, and of an import of outcomes."""
    if run.importing_from is not None:
        yield Wait(
            Missing(
                Fact.NEVER_PRODUCED, detail=f"the outcomes of run {run.importing_from} have not been imported yet"
            )
        )
    for group in run.groups.values():
        if not group.is_known:
            parts = f"{len(group.seen)} of {group.parts} parts of the group were read"
            yield Wait(Missing(Fact.NEVER_PRODUCED, group.name, detail=parts))
        for key in sorted(group.unsettled):
            if run.shared[key].is_reducing:
                detail = f"the contributions to {key!r} are being read"
                yield Wait(Missing(Fact.NEVER_PRODUCED, group.name, key=key, detail=detail))
        for task in group.tasks.values():
            if task.is_open:
                yield from _waits_of_task(run, group, task, names)


def may_begin_later(run: Run, group: str) -> bool:
    """True for the group of the compensations, which the owner makes itself once all others have ended."""
    return group in run.phases and group == COMPENSATE and run.phase is Phase.RUNNING


def _waits_of_task(run: Run, group: Group, task: Task, names: Names) -> Iterator[Wait]:
    if not run.may_start(group):
        yield Wait(Missing(Fact.WAITS_FOR_GROUPS, task.group, task.name))
    elif task.state is TaskState.WAITING:
        yield from _waiting(task)
        if task.judging is not None:
            detail = "the values that its condition compares are being read"
            yield Wait(Missing(Fact.NEVER_PRODUCED, task.group, task.name, detail=detail))
    else:
        yield from kind_of(task).pending(Step(run, group, task), names)


def _waiting(task: Task) -> Iterator[Wait]:
    needs = {need.key: need for need in task.order.needs}
    fields = _fields(task)
    for key in sorted(task.missing):
        need = needs[key]
        missing = Missing(Fact.WAITS_FOR_KEY, task.group, task.name, key=key)
        if need.kind == "task":
            missing = replace(missing, fact=Fact.WAITS_FOR_TASK, detail=f"the end of {key.strip('{}')}")
        elif need.kind != "produced":
            missing = replace(missing, fact=Fact.WAITS_FOR_EXTERNAL_KEY)
        elif need.optional and is_under(key, fields):
            missing = replace(missing, fact=Fact.WAITS_FOR_FIELD)
        yield Wait(missing)


def _fields(task: Task) -> list[str]:
    """The paths that the conditions of a step read before it begins."""
    conditions = [] if task.order.when is None else [task.order.when]
    conditions += task.order.switch.cases if task.order.switch is not None else ()
    return [path for condition in conditions for path in fields_of(condition)]
