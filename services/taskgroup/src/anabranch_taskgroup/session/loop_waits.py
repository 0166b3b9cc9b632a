"""What a loop waits for: its next iteration, or the end of the running one. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from anabranch.core.reasons import Fact, Missing
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.steps.kind import Wait
from anabranch_taskgroup.session.task_state import LoopPhase, Task


def loop_waits(run: Run, task: Task) -> Iterator[Wait]:
    """The missing fact of a loop that has begun and has not ended. What its tasks wait for is theirs."""
    loop, spec = task.loop, task.order.loop
    assert spec is not None
    base = Missing(Fact.IN_ITERATION, task.group, task.name)
    if loop is None:
        yield Wait(Missing(Fact.NEVER_PRODUCED, task.group, task.name, detail="its body has not been read"))
        return
    where = f"iteration {loop.number} of at most {spec.limit:,} of {task.group}/{task.name}"
    if task.iteration:
        where += f" in iteration {'.'.join(map(str, task.iteration))}"
    if loop.phase is LoopPhase.RUNNING:
        yield Wait(Missing(base.fact, task.group, task.name, since=loop.started_at, detail=f"{where} is running"))
    elif loop.phase is not LoopPhase.RESTING:
        detail = f"{where}: values that its conditions compare, or items, are being read from the store"
        yield Wait(Missing(Fact.NEVER_PRODUCED, task.group, task.name, detail=detail))
    elif run.paused:
        yield Wait(Missing(Fact.PAUSED, task.group, task.name, detail=f"{where} starts once the run is resumed"))
    else:
        detail = f"{where} starts after the delay between iterations"
        yield Wait(Missing(Fact.WAITS_FOR_ITERATION, task.group, task.name, until=loop.due, detail=detail))
