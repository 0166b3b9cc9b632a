"""What the workers are to stop where a run, or a group, goes on. Pure."""

from __future__ import annotations

from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Halt


def halt_of_task(run: Run, task: Task) -> Halt:
    """The stop of a task's members. In a loop only of this iteration: the next one has members of the same task.
    Elsewhere of its group, which has ended with it."""
    if task.iteration:
        return Halt(run.run_id, run.session_id, "cancelled", task.group, run.admission, task.name, task.iteration)
    return Halt(run.run_id, run.session_id, "cancelled", task.group, run.admission)
