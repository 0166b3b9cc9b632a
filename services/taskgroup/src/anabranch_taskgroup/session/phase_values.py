"""What the tasks of a run's end see beside their dependencies: the run, or the task that they undo. Pure."""

from __future__ import annotations

from anabranch_taskgroup.session.failures import all_failures, first_failures
from anabranch_taskgroup.session.phase_table import FINALLY
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.undone_values import names_of_result, results_of_only_member

RUN = "run"


def names_of_phase(run: Run, task: Task) -> dict[str, Value]:
    """The names that templates and conditions of a task in a phase of the run's end may use, with their values."""
    if task.order.undoes is not None:
        return names_of_result(results_of_only_member(run, task)) if task.order.expansion is None else {}
    return {RUN: Value(run_document(run))} if task.group == FINALLY and run.outcome is not None else {}


def run_document(run: Run) -> dict[str, object]:
    """The run as `finally` sees it: its status, and its first failures with those of compensations."""
    groups = [group for group in run.groups.values() if group.name != FINALLY]
    failures = [failure for group in groups for failure in all_failures(group)]
    return {
        "run_id": run.run_id,
        "request_id": run.request_id,
        "session_id": run.session_id,
        "status": run.outcome,
        "failures": [failure.to_document() for failure in first_failures(failures)],
        "failure_count": len(failures),
    }
