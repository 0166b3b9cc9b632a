"""The decisions of a run's owner: admission, the start of groups, the join into the final record. Pure.

The state is a fold over the messages of a partition. Any message may arrive twice, and any prefix of the messages
may be applied again. The time is the timestamp of the record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anabranch.core.admissions import parts_of
from anabranch.core.errors import Problem, RequestRefused
from anabranch.core.request.models import COMPENSATE
from anabranch.core.request.request_hash import has_other_body, request_id_conflict, request_id_ended
from anabranch.core.request.shape import FreeFields
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.delivered_message import DeliveredMessage as DeliveredMessage
from anabranch.core.wire.messages import (
    CheckGrant,
    CheckRun,
    ClaimPartition,
    ControlChild,
    ControlRun,
    ControlSchedule,
    FailRun,
    FiringEnded,
    FiringStarted,
    Fragment,
    GrantAnswer,
    GroupFinished,
    GroupResults,
    Message,
    PhaseBegan,
    RunOverdue,
    RunUnknown,
    Snapshot,
    StopRun,
    SubmitChild,
    SubmitRun,
    TimerDue,
)
from anabranch.core.wire.run_record import RunRecord
from anabranch_agency.run.accepted_event import accepted_data, said
from anabranch_agency.run.child_answers import answer_cancelled, answer_final, answer_start, link_in, reject_child
from anabranch_agency.run.children import control_child, is_stopped_early, submit_child
from anabranch_agency.run.control import control_run, pause, stop
from anabranch_agency.run.ending import (
    end_if_lost,
    end_overdue,
    fail,
    finish,
    has_admission,
    publish_final,
    republish_end,
)
from anabranch_agency.run.event_state import EventAddress
from anabranch_agency.run.events import address_due, decide_event, restore_address
from anabranch_agency.run.final import MAX_SKIPPED
from anabranch_agency.run.firing_answers import answer_firing, reject_firing
from anabranch_agency.run.forwarding import send_signal
from anabranch_agency.run.grant_answers import check_place, grant_answered
from anabranch_agency.run.held_start import hold_start, keep_signal, open_session, scheduled_fields
from anabranch_agency.run.known_plans import PlannedRequest
from anabranch_agency.run.limit_state import LimitAddress
from anabranch_agency.run.limits import LIMIT_MESSAGES, decide_limit, limit_due, restore_limit
from anabranch_agency.run.phases import begin_phase, note_compensation
from anabranch_agency.run.run_places import queue_start, start_or_queue
from anabranch_agency.run.schedule_state import ScheduleState
from anabranch_agency.run.schedules import (
    control_schedule,
    firing_ended,
    firing_started,
    restore_schedule,
    schedule_due,
)
from anabranch_agency.run.snapshots import STATE_VERSION
from anabranch_agency.run.state import Address, PartitionState, Run, RunState
from anabranch_agency.run.turn import DecisionConfig, Turn, refuse


def decide(config: DecisionConfig, partition: PartitionState, message: Message, offset: int, at: float) -> Turn:
    """Apply one message to the state of the partition. The returned turn has the effects and events."""
    return decide_delivered(config, partition, DeliveredMessage(message, (), offset, at))


def decide_delivered(config: DecisionConfig, partition: PartitionState, delivery: DeliveredMessage) -> Turn:
    """As `decide`, for a message with a payload, whose bytes count."""
    trail = partition.trail
    if delivery.offset > trail.position:  # else it is a record that a snapshot was read together with
        trail.position = delivery.offset
        trail.bytes += delivery.size
    turn = Turn(config, partition, delivery.offset, delivery.at)
    message = delivery.message
    handler = _HANDLERS.get(type(message))
    if handler is not None:
        handler(turn, message)
    elif isinstance(message, Snapshot):
        _take_snapshot(turn, message, delivery.segments)
    elif type(message) in LIMIT_MESSAGES:
        decide_limit(turn, delivery)
    else:
        decide_event(turn, delivery)
    run_id = getattr(message, "run_id", "")
    run: Run | Address | None = partition.runs.get(run_id) or partition.addresses.get(run_id)
    run = run or partition.limits.get(run_id)
    if run is None and partition.schedules:
        run = partition.schedules.get(run_id)
    if run is not None:
        run.trail.last = delivery.offset
        if type(message) not in _CHANGELESS:
            run.trail.touched_at = delivery.at
            run.trail.bytes += delivery.size
    elif trail.strays is not None:
        trail.strays[run_id] = delivery.offset
    return turn


def _take_snapshot(turn: Turn, message: Snapshot, segments: tuple[bytes, ...]) -> None:
    """Move the pin of an open run. A rebuild that did not read the run from its beginning takes the run from the
    snapshot, and applies what the snapshot does not cover."""
    partition, trail = turn.partition, turn.partition.trail
    run, size = partition.opened.get(message.run_id), sum(map(len, segments))
    restored = trail.restored.pop(turn.offset, None)
    if restored is not None and trail.restores(message, turn.offset, partition.generation, run):
        _restore(turn, message, restored.run, size)
        for missed in restored.missed:
            turn.effects += decide_delivered(turn.config, partition, missed).effects
    run = partition.opened.get(message.run_id)
    if run is None or run.opened_at_offset != message.opened_at:
        partition.drop("snapshot of a run that is not open")
    elif trail.counts(message, turn.offset, partition.generation) and message.version == STATE_VERSION:
        trail.snapshotted(run, message, turn.at, size, partition.opened)


def _restore(turn: Turn, message: Snapshot, state: RunState | Address, size: int) -> None:
    if isinstance(state, EventAddress):
        restore_address(turn, message, state, size)
        return
    if isinstance(state, LimitAddress):
        restore_limit(turn, message, state, size)
        return
    if isinstance(state, ScheduleState):
        restore_schedule(turn, message, state, size)
        return
    turn.partition.restore(state, message, turn.at, size)
    run = state.run
    turn.store_record(run.run_id, run.tombstone, run.deadline)


def _claimed(turn: Turn, message: ClaimPartition) -> None:
    """Claims concern the shell only."""


# --- admission -----------------------------------------------------------------------------------


def _submit(turn: Turn, submit: SubmitRun) -> None:
    known = _known(turn, submit)
    if known is None:
        if submit.parent is not None and is_stopped_early(turn, submit.run_id):
            answer_cancelled(turn, submit.run_id, submit.parent)
        else:
            _admit(turn, submit)
        return
    end_if_lost(turn, submit.run_id)
    # Read again: if the run has just been ended as lost, the record has an end now, which is published below.
    known = _known(turn, submit) or known
    if known.final is not None:
        # Without this, an owner that replays this record after the store lost its data would admit the run again.
        turn.store_record(submit.run_id, known, turn.at)
    if submit.run_id in turn.partition.ended_unrecorded:
        # Without a refusal the sender would wait: the final record, which was published, is not known any more.
        _refuse(turn, submit, [request_id_ended()])
    elif has_other_body(known.body_hash, submit.body_hash):
        _refuse(turn, submit, [request_id_conflict()])
    else:
        _publish_again(turn, submit.run_id, known, submit.traceparent)


def _refuse(turn: Turn, submit: SubmitRun, errors: list[Problem]) -> None:
    refuse(turn, submit, errors, submit.warnings)
    reject_child(turn, submit, "; ".join(map(str, errors)))
    reject_firing(turn, submit, "; ".join(map(str, errors)))


def _known(turn: Turn, submit: SubmitRun) -> RunRecord | None:
    """The record of an earlier run with the same request id. A record that this message created is not one: the
    message is being replayed."""
    run = turn.partition.runs.get(submit.run_id)
    known = run.tombstone if run is not None else turn.partition.tombstones.get(submit.run_id)
    return None if known is None or known.offset == turn.position or _is_of_this_record(turn, known) else known


def _is_of_this_record(turn: Turn, known: RunRecord) -> bool:
    """Whether this message admitted the open run, in a recreated topic whose new generation was not known yet."""
    _, offset = parts_of(known.offset)
    return known.final is None and offset == turn.offset and known.accepted_at == turn.at


def _admit(turn: Turn, submit: SubmitRun) -> None:
    # `_known` has excluded other records: this one has opened the run, and is read again.
    if submit.run_id in turn.partition.runs:
        turn.partition.drop("admitted before")
        return
    try:
        planned = turn.config.plans.of(submit)
    except RequestRefused as refusal:
        _refuse(turn, submit, list(refusal.errors))
        return
    run = _new_run(turn, submit, planned)
    turn.partition.open(run, turn.offset, turn.at)
    turn.store_record(run.run_id, run.tombstone, run.deadline)
    # A session that is named after its run belongs to the project in the record of the run.
    if run.session_id != run.run_id:
        turn.store_project(run.session_id, planned.plan.project, run.deadline)
    turn.event(run.run_id, run.tombstone, "run.accepted", **accepted_data(run, planned), **said(submit))
    _accept(turn, run.run_id, run.tombstone, run.traceparent)
    if submit.parent is not None:
        answer_start(turn, run.run_id, submit.parent)
    if submit.schedule is not None:
        answer_firing(turn, run.run_id, run.tombstone)
    _start(turn, submit, planned, run)


def _new_run(turn: Turn, submit: SubmitRun, planned: PlannedRequest) -> Run:
    plan, free = planned.plan, planned.free
    held_until = _held_until(turn, free) if free.not_before is not None else None
    deadline = (held_until or turn.at) + plan.timeout
    if free.deadline is not None:
        deadline = min(deadline, free.deadline)
    groups = set(plan.group_names)
    accepted = {
        "request_id": submit.request_id,
        "run_id": submit.run_id,
        "session_id": submit.session_id,
        "status": "running",
        "project": plan.project,
        "name": free.name,
        "labels": dict(free.labels),
        "accepted_at": rfc3339(turn.at),
        "deadline": rfc3339(deadline),
        "task_groups": len(plan.groups),
        "tasks": plan.tasks,
        "warnings": list(submit.warnings),
        "retry_of": submit.retry_of,
    }
    if held_until is not None:
        accepted |= scheduled_fields(held_until)
    if submit.parent is not None:
        accepted["parent"] = submit.parent.model_dump(mode="json")
    if submit.schedule is not None:
        accepted["schedule"] = submit.schedule.model_dump(mode="json")
    if submit.forked_from is not None:
        accepted["forked_from"] = submit.forked_from
    if submit.definition is not None:
        accepted["definition"] = submit.definition.model_dump(mode="json")
    tombstone = RunRecord(
        body_hash=submit.body_hash,
        offset=turn.position,
        session_id=submit.session_id,
        request_id=submit.request_id,
        accepted=accepted,
        accepted_at=turn.at,
    )
    return Run(
        run_id=submit.run_id,
        tombstone=tombstone,
        deadline=deadline,
        name=free.name,
        labels=dict(free.labels),
        waiting=groups,
        warnings=submit.warnings,
        traceparent=submit.traceparent,
        retry_of=submit.retry_of,
        origin=submit.origin,
        phases=plan.phases,
    )


def _held_until(turn: Turn, free: FreeFields) -> float | None:
    """When a run starts that does not start at once."""
    return free.not_before if free.not_before is not None and free.not_before > turn.at else None


def _start(turn: Turn, submit: SubmitRun, planned: PlannedRequest, run: Run) -> None:
    free = planned.free
    held_until = _held_until(turn, free) if free.not_before is not None else None
    if held_until is not None:
        hold_start(turn, run, submit, held_until)
    elif planned.plan.concurrency is not None:
        queue_start(turn, run, submit, planned)
    else:
        open_session(turn, submit, planned, run)
    # Applied after the messages that open the run: the session's owner drops the pause of a run that is not
    # open.
    early_stop, early_pause = turn.partition.pop_early(submit.run_id)
    if early_pause is not None:
        pause(turn, run, early_pause)
    if turn.partition.early_signals.by_run:
        for signal in turn.partition.early_signals.pop(submit.run_id):
            if run.held is None:
                send_signal(turn, run, signal.name, signal.value, signal.signal_id)
            else:
                keep_signal(run.held, signal)
    if early_stop is not None:
        stop(turn, run, "cancelled", early_stop)
    elif run.deadline <= turn.at:
        stop(turn, run, "timed_out")


def _accept(turn: Turn, run_id: str, known: RunRecord, traceparent: str | None) -> None:
    turn.publish_result(
        "run.accepted",
        f"{run_id}/accepted",
        known.accepted,
        at=known.accepted_at,
        key=run_id,
        traceparent=traceparent,
    )


def _publish_again(turn: Turn, run_id: str, known: RunRecord, traceparent: str | None) -> None:
    """Answer a repeated request: its sender gets the same records as the first one, with the same ids."""
    turn.partition.drop("submitted before")
    _accept(turn, run_id, known, traceparent)
    if known.final is not None:
        publish_final(turn, run_id, known, traceparent)
    if "schedule" in known.accepted:
        answer_firing(turn, run_id, known)
    if "parent" in known.accepted:
        if known.final is not None:
            answer_final(turn, run_id, known)
        elif (link := link_in(known.accepted)) is not None:
            answer_start(turn, run_id, link)


def _control(turn: Turn, control: ControlRun) -> None:
    end_if_lost(turn, control.run_id)
    control_run(turn, control)


# --- time ------------------------------------------------------------------------------------------


def _timer_due(turn: Turn, timer: TimerDue) -> None:
    run = turn.partition.runs.get(timer.run_id)
    if run is None:
        _address_due(turn, timer)
        return
    # The broker's clock decides where it is behind that of the owner, which then appends the timer again.
    due, now = run.due, min(timer.at, turn.at)
    if due > now:
        return
    if run.held is not None and run.held.until <= now:
        start_or_queue(turn, run)
    elif run.stopping is None and run.phase is None:
        stop(turn, run, "timed_out")
    else:
        end_overdue(turn, run)


def _address_due(turn: Turn, timer: TimerDue) -> None:
    now = min(timer.at, turn.at)
    if (address := turn.partition.addresses.get(timer.run_id)) is not None:
        address_due(turn, address, now)
    elif (limit := turn.partition.limits.get(timer.run_id)) is not None:
        limit_due(turn, limit, now)
    elif (schedule := turn.partition.schedules.get(timer.run_id)) is not None:
        schedule_due(turn, schedule, now)
    else:
        end_if_lost(turn, timer.run_id)


# --- the join ------------------------------------------------------------------------------------


def _group_results(turn: Turn, message: GroupResults) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None or not has_admission(run, message) or (message.group, message.part) in run.result_parts:
        turn.partition.drop("results known before")
        return
    run.result_parts.add((message.group, message.part))
    run.results.update(message.results)


def _group_finished(turn: Turn, message: GroupFinished) -> None:
    """Remove a group from the join; the last group ends the run, and no other message can.

    Results of a group may be in earlier records. If one of those is missing, the log refused it but not this
    message, and the sender publishes all of them again.
    """
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        end_if_lost(turn, message.run_id)
    if run is None or not has_admission(run, message) or message.group not in run.waiting:
        turn.partition.drop("group finished before")
        return
    if message.parts and sum(group == message.group for group, _ in run.result_parts) < message.parts:
        turn.partition.drop("group finished without its results")
        return
    run.waiting.discard(message.group)
    run.statuses.add(message.status)
    run.results.update(message.results)
    run.failures += message.failures
    run.failure_count += message.failure_count
    if message.failure_pages:
        run.failure_pages[message.group] = message.failure_pages
    if message.group == COMPENSATE and COMPENSATE in run.phases:
        note_compensation(run, message)
    else:
        run.counts += message.counts
    run.taken_over += message.taken_over
    run.handled_failures += message.handled_failures
    run.skipped += message.skipped[: max(0, MAX_SKIPPED - len(run.skipped))]
    run.costs += [(message.group, *costs) for costs in message.costs]
    run.warnings = tuple(dict.fromkeys((*run.warnings, *message.warnings)))
    if not run.waiting:
        finish(turn, run)


def _phase_began(turn: Turn, message: PhaseBegan) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None or not has_admission(run, message):
        turn.partition.drop("phase of a run that is not open")
        return
    begin_phase(turn, run, message)


def _failed(turn: Turn, message: FailRun) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        end_if_lost(turn, message.run_id)
    elif has_admission(run, message):
        fail(turn, run, message)
    else:
        turn.partition.drop("fault of an earlier run")


def _unknown(turn: Turn, message: RunUnknown) -> None:
    """The session's owner does not know the run.

    If the run is open, ask once more: the messages that open it may have been in flight, and precede this question
    on the log. If it has ended, publish the event of its end again for the event manager, which missed it.
    """
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        end_if_lost(turn, message.run_id)
        republish_end(turn, message.run_id)
    elif run.held is not None:
        turn.partition.drop("question about a run that has not started")
    else:
        check = CheckRun(run_id=run.run_id, admission=run.admission)
        turn.publish(turn.config.names.groups, run.session_id, check)


def _overdue(turn: Turn, message: RunOverdue) -> None:
    """The session's owner has a run that is past its deadline. An open run is stopped by its own timer; any other
    run is stopped here, because nothing else would end it."""
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        end_if_lost(turn, message.run_id)
    # With a later admission, the session's owner missed the end of an earlier run with the same id.
    if run is None or run.admission > message.admission:
        order = StopRun(run_id=message.run_id, reason="timed_out", admission=message.admission)
        turn.publish(turn.config.names.groups, message.session_id, order)


def _fragment(turn: Turn, message: Fragment) -> None:
    """The shell assembles fragments; an incomplete message changes nothing."""


_HANDLERS: dict[type[Message], Callable[[Turn, Any], None]] = {
    ClaimPartition: _claimed,
    SubmitRun: _submit,
    SubmitChild: submit_child,
    ControlChild: control_child,
    ControlRun: _control,
    TimerDue: _timer_due,
    GroupResults: _group_results,
    GroupFinished: _group_finished,
    PhaseBegan: _phase_began,
    FailRun: _failed,
    RunUnknown: _unknown,
    RunOverdue: _overdue,
    Fragment: _fragment,
    GrantAnswer: grant_answered,
    CheckGrant: check_place,
    ControlSchedule: control_schedule,
    FiringStarted: firing_started,
    FiringEnded: firing_ended,
}
_CHANGELESS = frozenset((RunUnknown, RunOverdue, Snapshot))
"""Messages that do not change the state of a run: they do not make another snapshot of it necessary."""
