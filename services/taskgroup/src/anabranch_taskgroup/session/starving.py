"""Members that wait for a budget: they start once something of it is given back, or their task fails. Pure."""

from __future__ import annotations

from anabranch_taskgroup.session.budgets import EXCEEDED, Refusal, allowance, note_exceeded, why
from anabranch_taskgroup.session.chunks import schedule
from anabranch_taskgroup.session.endings import fail
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskEvent, TaskState
from anabranch_taskgroup.session.steps.joins import report_partial
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn

MAX_REFUSED = 8
"""So many tasks in a row that may not start yet end a search for one that may: thousands may wait."""


def start_starved(turn: Turn, run: Run) -> None:
    """Start members of the tasks that wait for a budget, in the order in which they began to wait. A task whose
    members will never start fails, once those that have started have ended."""
    refused = 0
    for group_name, name in list(run.starved):
        if refused >= MAX_REFUSED:
            return
        group = run.groups[group_name]
        task = group.tasks[name]
        if task.state is not TaskState.RUNNING:
            run.starved.pop((group_name, name), None)
            continue
        allowed = allowance(run, group, task, 1)
        if allowed.refusal is None or allowed.members:
            run.starved.pop((group_name, name), None)
            schedule(turn, run, group, task)
            refused = 0
        elif allowed.refusal.is_final and not task.in_flight:
            run.starved.pop((group_name, name), None)
            _fail(turn, run, group, task, allowed.refusal)
        else:
            refused += 1


def _fail(turn: Turn, run: Run, group: Group, task: Task, refusal: Refusal) -> None:
    """None of a task's further members can start. The values of those that completed are in the run's report."""
    message = why(run, group, task, refusal)
    if not refusal.budget.is_exceeded and refusal.budget is not task.budget:
        note_exceeded(turn, run, group, task, refusal)
    if task.order.expansion is not None:
        left = task.total - task.ended
        message = f"{left:,} of {task.total:,} members did not start: {message}"
        turn.event(
            run,
            "task.joined",
            task=task,
            count=task.total,
            failed=len(task.failed),
            status="failed",
            message=message,
        )
    report_partial(turn, run, task)
    fail(turn, run, task, TaskEvent.BROKEN, EXCEEDED, message)
