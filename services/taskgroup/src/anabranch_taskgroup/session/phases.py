"""Takes a run through the phases of its end: its groups, compensations, `finally`, and then it is closed. Pure.

The group of a phase is an ordinary group, so its members, retries, dead letters and events are like those of any
task. It differs in two points: it starts here, and a stop of the run does not end it.
"""

from __future__ import annotations

from anabranch.core.sub_runs import CANCELLED as SUB_RUN_CANCELLED
from anabranch.core.wire.messages import PhaseBegan, Status
from anabranch_taskgroup.session.compensation import add_compensations
from anabranch_taskgroup.session.endings import end
from anabranch_taskgroup.session.failures import all_failures, task_failure
from anabranch_taskgroup.session.groups import close_unused, group_status
from anabranch_taskgroup.session.lifecycle import admit, settle, stop_steps
from anabranch_taskgroup.session.overdue import first_question
from anabranch_taskgroup.session.phase_limits import phase_seconds
from anabranch_taskgroup.session.phase_table import COMPENSATE, GROUP_OF, NEXT, Phase
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskEvent
from anabranch_taskgroup.session.steps.kind import Step
from anabranch_taskgroup.session.steps.registry import kind_of
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.timers import OVERDUE, Timer, TimerKind
from anabranch_taskgroup.session.turn import Halt, Turn


def run_phases(turn: Turn) -> None:
    """Enter the next phase of each run of which the last group of the present phase has ended in this turn."""
    while turn.ending:
        run = turn.ending.pop(0)
        if run.run_id in turn.partition.runs and _has_ended(run):
            _advance(turn, run)
            settle(turn)


def _has_ended(run: Run) -> bool:
    """True if each group of the present phase has ended."""
    if run.phase is Phase.RUNNING:
        ended = [group for group in run.groups.values() if group.is_reported and not group.is_ending]
        return len(ended) == len(run.expected) - len(run.phases)
    group = run.groups.get(GROUP_OF[run.phase])
    return group is not None and group.is_reported


def _advance(turn: Turn, run: Run) -> None:
    if run.phase is Phase.RUNNING:
        run.outcome = outcome_of(run)
    for phase in NEXT[run.phase]:
        name = GROUP_OF.get(phase)
        if name is None or name not in run.phases:
            continue
        run.phase = phase
        if name == COMPENSATE and not add_compensations(turn, run):
            close_unused(turn, run, Group(COMPENSATE, parts=1, seen={0}, is_ending=True))
            continue
        if not run.terminated:
            _begin(turn, run, name)
        return


def outcome_of(run: Run) -> Status:
    """How the groups of the request have ended as a whole. The run's owner comes to the same status, unless
    `finally` or a fault of a service fails the run."""
    statuses = {group_status(group) for group in run.groups.values() if not group.is_ending}
    if run.stopped and statuses & {"cancelled", "timed_out"}:
        return run.stopped
    if statuses <= {"completed"}:
        return "completed"
    if not statuses <= {"completed", "cancelled"}:
        return "failed"
    # Another run took the key of a task, unless a sub-run was cancelled.
    failures = (each for group in run.groups.values() if not group.is_ending for each in all_failures(group))
    return "failed" if any(each.error_type == SUB_RUN_CANCELLED for each in failures) else "cancelled"


def _begin(turn: Turn, run: Run, name: str) -> None:
    """Start the group of a phase. Its tasks may have time after the deadline of the run, so that is moved."""
    run.deadline = max(run.deadline, turn.at + phase_seconds(run, name))
    run.timers.schedule(OVERDUE, first_question(run.deadline))
    report_phase(turn, run)
    group = run.groups.get(name)
    if group is not None:  # else its first record, which is read later, starts it
        turn.event(run, "group.started", group=name)
        group.opened_at = turn.at
        start_tasks(turn, run, group, list(group.tasks.values()))


def report_phase(turn: Turn, run: Run) -> None:
    """Tell the run's owner that a phase has begun, and until when it may take. A repetition changes nothing."""
    if run.phase in GROUP_OF:
        message = PhaseBegan(
            run_id=run.run_id,
            phase="compensate" if run.phase is Phase.COMPENSATING else "finally",
            until=run.deadline,
            admission=run.admission,
        )
        turn.publish(turn.config.names.runs, run.run_id, message)


def start_tasks(turn: Turn, run: Run, group: Group, tasks: list[Task]) -> None:
    """Admit tasks of a group whose phase has begun."""
    group.deadline = run.deadline
    run.timers.schedule(Timer(TimerKind.GROUP_TIMEOUT, group.name), run.deadline)
    for task in tasks:
        admit(turn, run, task)


def terminate(turn: Turn, run: Run) -> None:
    """End a run without compensations and `finally`: those that have begun are stopped, others do not begin."""
    run.terminated = True
    for name in run.phases:
        group = run.groups.get(name)
        if group is not None and not group.is_reported:
            turn.effects.append(Halt(run.run_id, run.session_id, "cancelled", name, run.admission))
            stop_steps(turn, run, group, TaskEvent.CANCEL)


def time_out_task(turn: Turn, run: Run, group: Group, task: Task) -> None:
    """End a task of `finally` that has not ended within its timeout, which counts for all of its attempts."""
    message = f"the task did not end within its timeout of {task.order.timeout:g} s"
    task.failed[-1] = task_failure(task, "TaskTimeout", message)
    kind_of(task).cancel(turn, Step(run, group, task))
    end(turn, run, task, TaskEvent.TIME_OUT, error_type="TaskTimeout", message=message)
