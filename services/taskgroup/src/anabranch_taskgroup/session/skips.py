"""Why a step is skipped, in words. Pure."""

from __future__ import annotations

from anabranch.core.wire.messages import Need
from anabranch_taskgroup.session.keys import lookup_of
from anabranch_taskgroup.session.state import Absent, Run, Value
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Skip, Task


def absent_need(need: Need, absence: Absent) -> Skip:
    """A required key, or the end of a task, is absent."""
    because = absence.reason if need.kind == "task" else f"{need.key!r} is absent: {absence.reason}"
    return Skip("dependency", because, absence.by_failure)


def is_by_failure(task: Task, ended: TaskState) -> bool:
    """True if a step ended without values by a failure that nothing handles, or was skipped for such a failure."""
    if ended is TaskState.SKIPPED:
        return task.skip is not None and task.skip.by_failure
    return ended is not TaskState.COMPLETED and not (
        ended is TaskState.FAILED and task.order.error_key is not None
    )


def other_branch(run: Run, task: Task) -> Skip | None:
    """The reason if the switch of a step has chosen another case; None if it has chosen this one, has not chosen,
    or has no value: then its key is absent."""
    branch = task.order.branch
    assert branch is not None
    found = lookup_of(run, task)(branch.key)
    if not isinstance(found, Value) or found.data == branch.case:
        return None
    switch = run.producers.get(branch.key)
    if branch.reason == "condition":
        return Skip("condition", switch.because if switch is not None else "the condition is false")
    name = branch.key.strip("{}") if switch is None else f"{switch.group}/{switch.name}"
    return Skip("branch", f"{name} chose {_choice(found.data, switch)}")


def _choice(case: object, switch: Task | None) -> str:
    if case == -1:
        return f"no case: {switch.because}" if switch is not None and switch.because else "no case"
    spec = switch.order.switch if switch is not None else None
    return "the default" if spec is not None and case == len(spec.cases) else f"case {case}"
