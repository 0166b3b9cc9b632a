"""The actor of a session: takes a state and a message, and returns the new state and the effects. Pure.

The state is a fold over the log: a message that is delivered again, or a log that is read again from an earlier
offset, changes nothing that is known. Time is the timestamp of the record. `decide` is the whole interface; each
message type has a handler in `_HANDLERS`, and those that are addressed to one step go to the kind of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anabranch.core.admissions import first_fence
from anabranch.core.names import outcome_name
from anabranch.core.wire.delivered_message import DeliveredMessage as DeliveredMessage
from anabranch.core.wire.messages import (
    CheckGrant,
    CheckRun,
    ClaimPartition,
    DecideApproval,
    DeliverEvent,
    Fragment,
    GrantAnswer,
    KeyReduced,
    Message,
    Nudge,
    OpenRun,
    PauseRun,
    ReleaseHeld,
    RunTaken,
    RunUnknown,
    SignalRun,
    Snapshot,
    StartGroup,
    StopRun,
    TaskTaken,
    TimerDue,
    ValueFound,
    WorkFound,
)
from anabranch.core.wire.results import is_reference
from anabranch_taskgroup.session.budget_state import Budget
from anabranch_taskgroup.session.context_merge import apply_reduced
from anabranch_taskgroup.session.derive import derive, halts
from anabranch_taskgroup.session.forks import take_task
from anabranch_taskgroup.session.groups import close_group, group_status, report_group
from anabranch_taskgroup.session.held import release
from anabranch_taskgroup.session.keys import is_from_outside, set_key
from anabranch_taskgroup.session.known_runs import (
    abandon,
    abandon_incomplete,
    answer_lost,
    drop_reopening,
    early_stop,
    is_known,
    open_run,
    remember_early_stop,
)
from anabranch_taskgroup.session.lifecycle import admit, refuse_value, settle, stop_steps
from anabranch_taskgroup.session.limit_keys import configured_breakers
from anabranch_taskgroup.session.loop_bodies import release_body
from anabranch_taskgroup.session.overdue import ask_about_overdue, first_question
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.phase_table import Phase
from anabranch_taskgroup.session.phases import (
    report_phase,
    run_phases,
    start_tasks,
    terminate,
    time_out_task,
)
from anabranch_taskgroup.session.raising import raise_waiting
from anabranch_taskgroup.session.restoring import restore
from anabranch_taskgroup.session.retry_import import finish_import, request_import
from anabranch_taskgroup.session.retry_import import has_all_groups as is_whole
from anabranch_taskgroup.session.signals import SIGNALS, deliver
from anabranch_taskgroup.session.snapshots import STATE_VERSION
from anabranch_taskgroup.session.state import Group, MergedKey, Run, Value
from anabranch_taskgroup.session.states import TaskEvent, TaskState
from anabranch_taskgroup.session.steps.kind import Step
from anabranch_taskgroup.session.steps.registry import kind_of, open_steps
from anabranch_taskgroup.session.steps.task_grants import check_grant, receive_grant
from anabranch_taskgroup.session.steps.wait_approvals import decide_approval
from anabranch_taskgroup.session.steps.wait_conditions import note_changes_of_session
from anabranch_taskgroup.session.steps.wait_events import receive_event
from anabranch_taskgroup.session.steps.wait_signals import receive
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.timers import OVERDUE, STEP_TIMERS, Timer, TimerKind, in_request_order
from anabranch_taskgroup.session.turn import DecisionConfig, Halt, Pause, Turn
from anabranch_taskgroup.session.value_references import ANY_SIZE, as_published
from anabranch_taskgroup.session.work import work_found


def decide(config: DecisionConfig, partition: PartitionState, delivery: DeliveredMessage) -> Turn:
    """Apply one message to the partition's state; returns the turn, which has the effects and events."""
    trail = partition.trail
    if delivery.offset > trail.position:  # else it is a record that a snapshot was read together with
        trail.position = delivery.offset
        trail.bytes += delivery.size
    turn = Turn(config, partition, delivery.offset, delivery.at)
    _HANDLERS[type(delivery.message)](turn, delivery.message, delivery.segments)
    settle(turn)
    while turn.changed:
        note_changes_of_session(turn)
        settle(turn)
    if turn.ending:
        run_phases(turn)
    run_id = getattr(delivery.message, "run_id", "")
    run = partition.runs.get(run_id)
    if run is not None:
        partition.arm(run)
        run.trail.last = delivery.offset
        if type(delivery.message) not in _CHANGELESS:
            run.trail.touched_at = delivery.at
            run.trail.bytes += delivery.size
            run.trail.iterations += turn.iterations
    elif trail.strays is not None:
        trail.strays[run_id] = delivery.offset
    return turn


def _ignore(turn: Turn, message: ClaimPartition | Fragment, segments: tuple[bytes, ...]) -> None:
    """The shell handles claims and joins fragments: the state of runs depends on neither."""


def _take_snapshot(turn: Turn, message: Snapshot, segments: tuple[bytes, ...]) -> None:
    """Move the pin of an open run. A rebuild that did not read the run from its beginning takes the run from the
    snapshot, and applies what the snapshot does not cover."""
    partition, trail = turn.partition, turn.partition.trail
    run = partition.runs.get(message.run_id)
    restored = trail.restored.pop(turn.offset, None)
    if restored is not None and trail.restores(message, turn.offset, partition.generation, run):
        restore(turn, restored.run, message, sum(map(len, segments)))
        for missed in restored.missed:
            turn.effects += decide(turn.config, partition, missed).effects
    run = partition.runs.get(message.run_id)
    if run is None or run.opened_at_offset != message.opened_at:
        partition.drop("snapshot of a run that is not open")
    elif trail.counts(message, turn.offset, partition.generation) and message.version == STATE_VERSION:
        trail.snapshotted(run, message, turn.at, sum(map(len, segments)), partition.runs)


# --- opening and stopping ------------------------------------------------------------------------


def _open_run(turn: Turn, message: OpenRun, segments: tuple[bytes, ...]) -> None:
    partition = turn.partition
    if is_known(partition, message):
        drop_reopening(turn, message)
        return
    stop = early_stop(partition, message)
    # An earlier admission of the same id, whose end was never read: its members must not run on.
    if message.run_id in partition.runs:
        abandon(turn, partition.runs[message.run_id])
    run = Run(
        run_id=message.run_id,
        request_id=message.request_id,
        session_id=message.session_id,
        opened_at_offset=turn.offset,
        deadline=message.deadline,
        admission=message.admission,
        inline_limit=turn.config.inline_limit if message.inline_limit is None else message.inline_limit,
        member_limit=turn.config.member_limit if message.member_limit is None else message.member_limit,
        expected=message.groups,
        context=dict(message.context),
        traceparent=message.traceparent,
        importing_from=message.retry_of or message.forked_from,
        forked_from=message.forked_from,
        taken=message.taken,
        retry_of=message.retry_of,
        reserved_keys=frozenset(message.reserved_keys),
        shared={key: MergedKey(each.policy, each.producers) for key, each in message.shared.items()},
        alternatives=dict(message.alternatives),
        phases=message.phases,
        submitted_at=message.submitted_at or 0.0,
        depth=message.depth,
        project=message.project,
        requested_by=message.requested_by,
        budget=message.budget and Budget(message.budget),
        has_budgets=message.budget is not None,
        priority=message.priority,
        pool=message.pool,
        fairness_key=message.fairness_key,
        due_at=message.due_at,
        configured_limits=message.configured_limits,
    )
    if message.configured_limits is not None:
        run.breakers = configured_breakers(message.configured_limits)
    run.timers.schedule(OVERDUE, first_question(message.deadline))
    partition.runs[run.run_id] = run
    partition.trail.opened(run, turn.offset, turn.at, partition.runs)
    for key, value in run.context.items():
        run.values[key] = given = Value(value)
        turn.set_context(run, key, as_published(turn, run, key, given, ANY_SIZE))
    # A stop that was read before the run was: `admit` ends each step of a stopped run as its group starts.
    run.stopped = stop


def _start_group(turn: Turn, message: StartGroup, segments: tuple[bytes, ...]) -> None:
    run = open_run(turn, message)
    if run is None:
        turn.partition.drop("group of an unknown run")
        return
    group = run.groups.get(message.group)
    if group is None:
        group = _new_group(turn, run, message)
    if message.part in group.seen:
        turn.partition.drop("group started before")
        return
    group.seen.add(message.part)
    tasks = []
    fence = first_fence(run.admission)
    for order in message.tasks:
        group.tasks[order.name] = task = Task(order, group.name, fence)
        if order.budget is not None:
            task.budget, run.has_budgets = Budget(order.budget), True
        if order.announces:
            run.producers[outcome_name(group.name, order.name)] = task
        if order.in_loop is not None:
            task.state = TaskState.DORMANT
            continue
        run.producers.update(dict.fromkeys(order.result_keys, task))
        if order.error_key is not None:
            run.producers[order.error_key] = task
        tasks.append(task)
    # Counted before the first step is admitted, which may end at once and must not close the group without the
    # others.
    group.unfinished += len(tasks)
    if group.is_ending and run.may_start(group):
        start_tasks(turn, run, group, tasks)
    elif run.importing_from is not None and not run.stopped:
        request_import(turn, run)
    elif not group.is_ending or run.terminated:
        for task in tasks:
            admit(turn, run, task)
    if group.parts > 1 and group.is_known:
        _complete_bodies(turn, run, group)
    if not group.unfinished:
        close_group(turn, run, group)
    # A part that is read after the group's timeout has tasks that have to be stopped as well.
    if group.deadline is not None and not group.is_reported and not group.is_stopped:
        run.timers.schedule(Timer(TimerKind.GROUP_TIMEOUT, group.name), group.deadline)


def _complete_bodies(turn: Turn, run: Run, group: Group) -> None:
    """The last part of a group was read: loops may begin whose tasks were in a later part."""
    for task in list(group.tasks.values()):
        if task.order.kind == "loop":
            if task.is_over:
                release_body(turn, run, group, task)
            elif task.is_open:
                kind_of(task).resume(turn, Step(run, group, task))


def _new_group(turn: Turn, run: Run, message: StartGroup) -> Group:
    group = Group(message.group, parts=message.parts, max_concurrency=message.max_concurrency)
    group.max_chunks, group.opened_at = message.most_chunks, turn.at
    group.fail_fast, group.need = message.fail_fast, message.need
    if message.budget is not None:
        group.budget, run.has_budgets = Budget(message.budget), True
    if message.timeout is not None:
        group.deadline = turn.at + message.timeout
    for key, each in run.shared.items():
        if each.producers and each.home == group.name:
            group.unsettled.add(key)
    run.groups[message.group] = group
    group.is_ending = group.name in run.phases
    if run.may_start(group):
        turn.event(run, "group.started", group=group.name)
    return group


def _stop_run(turn: Turn, message: StopRun, segments: tuple[bytes, ...]) -> None:
    run = open_run(turn, message)
    if run is None:
        remember_early_stop(turn, message)
        return
    if run.stopped or run.phase is not Phase.RUNNING:
        _stop_again(turn, run, message)
        return
    run.stopped = message.reason
    run.timers.bring_forward(OVERDUE, first_question(turn.at))
    turn.effects += halts(run, message.reason)
    event = TaskEvent.TIME_OUT if message.reason == "timed_out" else TaskEvent.CANCEL
    for group in list(run.groups.values()):
        if not group.is_ending:
            stop_steps(turn, run, group, event)
    if message.terminate:
        terminate(turn, run)
    elif run.phases and run.paused:
        # Nothing resumes a stopped run, and its end has to go on.
        run.paused, run.pause_cause = False, run.pause_cause + 1
        turn.effects.append(Pause(run.run_id, run.session_id, False, run.deadline))


def _stop_again(turn: Turn, run: Run, message: StopRun) -> None:
    """A second stop, or one of a run that is ending: only a `terminate` ends a phase."""
    if message.terminate and run.phases and not run.terminated:
        terminate(turn, run)
    elif run.stopped and not is_whole(run):
        abandon_incomplete(turn, run)
    else:
        turn.partition.drop("stop of a run that is ending")


def _check_run(turn: Turn, message: CheckRun, segments: tuple[bytes, ...]) -> None:
    if open_run(turn, message) is None:
        answer_lost(turn, message.run_id, message.admission)


def _pause_run(turn: Turn, message: PauseRun, segments: tuple[bytes, ...]) -> None:
    run = open_run(turn, message)
    if run is None:
        turn.partition.drop("pause of a run that is not open")
        return
    # The run's owner may publish a pause again after the resume that followed it.
    if message.cause < run.pause_cause:
        turn.partition.drop("pause before a later one")
        return
    run.paused, run.pause_cause = message.paused, message.cause
    turn.effects.append(Pause(run.run_id, run.session_id, run.paused, run.deadline))
    for step in open_steps(run):
        kind_of(step.task).on_pause(turn, step)
    if not run.paused:
        _resume(turn, run)


def _resume(turn: Turn, run: Run) -> None:
    for step in open_steps(run):
        kind_of(step.task).resume(turn, step)


def _release_held(turn: Turn, message: ReleaseHeld, segments: tuple[bytes, ...]) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        turn.partition.drop("command on a run that is not open")
        return
    release(turn, run, message)


# --- results of the shell's reads -------------------------------------------------------------------


def _run_taken(turn: Turn, message: RunTaken, segments: tuple[bytes, ...]) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None or run.importing_from is None:
        turn.partition.drop("outcomes imported before")
        return
    for task in finish_import(run, message):
        admit(turn, run, task)


def _task_taken(turn: Turn, message: TaskTaken, segments: tuple[bytes, ...]) -> None:
    run = turn.partition.runs.get(message.run_id)
    task = run.task(message.group, message.task) if run is not None else None
    if run is None or task is None:
        turn.partition.drop("task imported into a run that is not open")
        return
    take_task(turn, run, task, segments)


def _value_found(turn: Turn, message: ValueFound, segments: tuple[bytes, ...]) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None or message.key in run.values:
        turn.partition.drop("value known before")
        return
    if message.error is not None:
        refuse_value(turn, run, message.key, message.error)
        return
    is_named = message.is_reference
    # Records of earlier releases do not say whether the value is a reference: its shape decides.
    value = Value(message.value, is_reference(message.value, run.session_id) if is_named is None else is_named)
    if run.retry_of is None and is_from_outside(run, message.key):
        turn.record_change(run, message.key, "outside", as_published(turn, run, message.key, value, ANY_SIZE))
    set_key(turn, run, run, message.key, value)


def _key_reduced(turn: Turn, message: KeyReduced, segments: tuple[bytes, ...]) -> None:
    run = open_run(turn, message)
    home = apply_reduced(turn, run, message) if run is not None else None
    if run is None or home is None:
        turn.partition.drop("key reduced before")
        return
    close_group(turn, run, home)


# --- time ----------------------------------------------------------------------------------------


def _timer_due(turn: Turn, message: TimerDue, segments: tuple[bytes, ...]) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        turn.partition.drop("timer of a run that is not open")
        return
    # The broker's clock decides where it is behind that of the process which appended the record.
    now = min(message.at, turn.at)
    # Popped before any fires: a timer that schedules itself again belongs to a later turn.
    for timer in in_request_order(run, run.timers.pop_due(now)):
        _FIRE[timer.kind](turn, run, timer, now)


def _ask_about_overdue(turn: Turn, run: Run, timer: Timer, now: float) -> None:
    ask_about_overdue(turn, run, now)


def _time_out_group(turn: Turn, run: Run, timer: Timer, now: float) -> None:
    group = run.groups[timer.group]
    if group.is_reported:  # by the timeout of another group, in this turn
        return
    group.timed_out = True
    turn.effects.append(Halt(run.run_id, run.session_id, "timed_out", group.name, run.admission))
    stop_steps(turn, run, group, TaskEvent.TIME_OUT)


def _raise_waiting(turn: Turn, run: Run, timer: Timer, now: float) -> None:
    raise_waiting(turn, run)


def _step_due(turn: Turn, run: Run, timer: Timer, now: float) -> None:
    group = run.groups[timer.group]
    task = group.tasks[timer.task]
    if task.is_over:
        return
    if timer.kind is TimerKind.TASK_TIMEOUT:
        time_out_task(turn, run, group, task)
    else:
        kind_of(task).due(turn, Step(run, group, task), timer.kind, now)


_FIRE: dict[TimerKind, Callable[[Turn, Run, Timer, float], None]] = {
    TimerKind.OVERDUE: _ask_about_overdue,
    TimerKind.GROUP_TIMEOUT: _time_out_group,
    TimerKind.PRIORITY: _raise_waiting,
    **dict.fromkeys(STEP_TIMERS, _step_due),
}


def _nudged(turn: Turn, message: Nudge, segments: tuple[bytes, ...]) -> None:
    """Perform the effects again that should be under way, and publish the ends of groups again: the run's owner
    drops those that it has received."""
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        turn.partition.drop("nudge of a run that is not open")
        turn.publish(turn.config.names.runs, message.run_id, RunUnknown(run_id=message.run_id))
        return
    turn.effects += derive(run)
    report_phase(turn, run)
    for group in run.groups.values():
        if group.is_reported:
            report_group(turn, run, group, group_status(group))
    _resume(turn, run)


_HANDLERS: dict[type[Message], Callable[[Turn, Any, tuple[bytes, ...]], None]] = {
    ClaimPartition: _ignore,
    Fragment: _ignore,
    OpenRun: _open_run,
    StartGroup: _start_group,
    StopRun: _stop_run,
    CheckRun: _check_run,
    PauseRun: _pause_run,
    ReleaseHeld: _release_held,
    WorkFound: work_found,
    SignalRun: receive,
    DecideApproval: decide_approval,
    DeliverEvent: receive_event,
    GrantAnswer: receive_grant,
    CheckGrant: check_grant,
    RunTaken: _run_taken,
    TaskTaken: _task_taken,
    ValueFound: _value_found,
    KeyReduced: _key_reduced,
    TimerDue: _timer_due,
    Nudge: _nudged,
    Snapshot: _take_snapshot,
    **dict.fromkeys(SIGNALS, deliver),
}
_CHANGELESS = frozenset((Nudge, CheckRun, WorkFound, Snapshot))
"""Messages that do not change the state of a run: they do not make another snapshot of it necessary."""
