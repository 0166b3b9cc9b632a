"""The run's owner: admits once, starts its groups, joins them into the final record. Pure.

State and message to new state and effects; a fold over the log. It may be given any message twice and any
prefix of its messages again. Time is the record's timestamp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anabranch.core.admissions import parts_of
from anabranch.core.errors import RequestRefused
from anabranch.core.request.models import Request
from anabranch.core.request.planning import Plan, plan
from anabranch.core.request.request_hash import has_other_body, request_id_conflict
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.messages import (
    CheckRun,
    ClaimPartition,
    ControlRun,
    FailRun,
    Fragment,
    GroupFinished,
    GroupResults,
    Message,
    RunOverdue,
    RunUnknown,
    StopRun,
    SubmitRun,
    TimerDue,
)
from anabranch.core.wire.run_record import RunRecord
from anabranch_agency.run.control import control_run, pause, stop
from anabranch_agency.run.ending import end_if_lost, end_overdue, fail, finish, is_of, note_end_again, tell_final
from anabranch_agency.run.planning import open_run, start_groups
from anabranch_agency.run.state import PartitionState, Run
from anabranch_agency.run.turn import DecisionConfig, Turn, refuse


def decide(rules: DecisionConfig, partition: PartitionState, message: Message, offset: int, at: float) -> Turn:
    """Apply one message to the partition's state; the turn holds the effects and events."""
    turn = Turn(rules, partition, offset, at)
    _HANDLERS[type(message)](turn, message)
    return turn


def _claimed(turn: Turn, message: ClaimPartition) -> None:
    """Claims are the shell's business."""


# --- admission -----------------------------------------------------------------------------------


def _submit(turn: Turn, submit: SubmitRun) -> None:
    known = _known(turn, submit)
    if known is None:
        _admit(turn, submit)
        return
    end_if_lost(turn, submit.run_id)
    known = _known(turn, submit) or known
    if known.final is not None:
        # Else an owner that replays this record once the store has forgotten would admit what was answered.
        turn.keep(submit.run_id, known, turn.at)
    if has_other_body(known.body_hash, submit.body_hash):
        refuse(turn, submit, [request_id_conflict()], submit.warnings)
    else:
        _tell_again(turn, submit.run_id, known, submit.traceparent)


def _known(turn: Turn, submit: SubmitRun) -> RunRecord | None:
    """The run that the same request id made before. A tombstone of this very record is none: it is replayed."""
    run = turn.partition.runs.get(submit.run_id)
    known = run.tombstone if run is not None else turn.partition.tombstones.get(submit.run_id)
    return None if known is None or known.offset == turn.position or _is_of_this_record(turn, known) else known


def _is_of_this_record(turn: Turn, known: RunRecord) -> bool:
    """Whether an open run was admitted by this record, in a topic that nobody had yet seen to be another one."""
    _, offset = parts_of(known.offset)
    return known.final is None and offset == turn.offset and known.accepted_at == turn.at


def _admit(turn: Turn, submit: SubmitRun) -> None:
    if submit.run_id in turn.partition.runs:
        turn.partition.drop("admitted before")
        return
    try:
        request = Request.model_validate(submit.request)
        made = plan(request, submit.session_keys)
    except RequestRefused as refusal:
        refuse(turn, submit, list(refusal.errors), submit.warnings)
        return
    run = _new_run(turn, submit, made)
    turn.partition.open(run)
    turn.keep(run.run_id, run.tombstone, run.deadline)
    if run.session_id != run.run_id:
        turn.keep_project(run.session_id, request.project, run.deadline)
    turn.event(run.run_id, run.tombstone, "run.accepted", **_shown(run, made))
    _accept(turn, run.run_id, run.tombstone, run.traceparent)
    _start(turn, submit, made, run)


def _shown(run: Run, made: Plan) -> dict[str, Any]:
    shown = {
        "project": made.request.project,
        "name": run.name,
        "labels": run.labels,
        "task_groups": len(run.waiting),
        "tasks": len(made.tasks),
        "deadline": run.deadline,
    }
    return shown | ({"retry_of": run.retry_of} if run.retry_of is not None else {})


def _new_run(turn: Turn, submit: SubmitRun, made: Plan) -> Run:
    request = made.request
    deadline = turn.at + request.timeout
    groups = {group.name for group in request.task_groups}
    accepted = {
        "request_id": submit.request_id,
        "run_id": submit.run_id,
        "session_id": submit.session_id,
        "status": "running",
        "project": request.project,
        "name": request.name,
        "labels": dict(request.labels),
        "accepted_at": rfc3339(turn.at),
        "deadline": rfc3339(deadline),
        "task_groups": len(groups),
        "tasks": len(made.tasks),
        "warnings": list(submit.warnings),
        "retry_of": submit.retry_of,
    }
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
        name=request.name,
        labels=dict(request.labels),
        waiting=groups,
        warnings=submit.warnings,
        traceparent=submit.traceparent,
        retry_of=submit.retry_of,
        origin=submit.origin,
    )


def _start(turn: Turn, submit: SubmitRun, made: Plan, run: Run) -> None:
    groups = turn.rules.names.groups
    turn.tell(groups, run.session_id, open_run(submit, made, run, turn.rules.limits))
    for start in start_groups(run, made):
        turn.tell(groups, run.session_id, start)
    wanted = turn.partition.take_early(submit.run_id)
    if "pause" in wanted:
        pause(turn, run, paused=True)
    if "stop" in wanted:
        stop(turn, run, "cancelled")


def _accept(turn: Turn, run_id: str, known: RunRecord, traceparent: str | None) -> None:
    turn.announce(
        "run.accepted",
        f"{run_id}/accepted",
        known.accepted,
        at=known.accepted_at,
        key=run_id,
        traceparent=traceparent,
    )


def _tell_again(turn: Turn, run_id: str, known: RunRecord, traceparent: str | None) -> None:
    """The same request once more: its sender gets what the first one got, under the same ids."""
    turn.partition.drop("submitted before")
    _accept(turn, run_id, known, traceparent)
    if known.final is not None:
        tell_final(turn, run_id, known, traceparent)


def _control(turn: Turn, control: ControlRun) -> None:
    end_if_lost(turn, control.run_id)
    control_run(turn, control)


# --- time ------------------------------------------------------------------------------------------


def _timer_due(turn: Turn, timer: TimerDue) -> None:
    run = turn.partition.runs.get(timer.run_id)
    if run is None:
        end_if_lost(turn, timer.run_id)
        return
    due, now = run.due, min(timer.at, turn.at)
    if due > now:
        return
    if run.stopping is None:
        stop(turn, run, "timed_out")
    else:
        end_overdue(turn, run)


# --- the join ------------------------------------------------------------------------------------


def _group_results(turn: Turn, message: GroupResults) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None or not is_of(run, message) or (message.group, message.part) in run.parts:
        turn.partition.drop("results known before")
        return
    run.parts.add((message.group, message.part))
    run.results.update(message.results)


def _group_finished(turn: Turn, message: GroupFinished) -> None:
    """Tick a group off; the last one ends the run, and no other record can.

    Its results may be in records before it. Where one of those is missing, the log has refused it and not this
    one: the sender publishes all of them again.
    """
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        end_if_lost(turn, message.run_id)
    if run is None or not is_of(run, message) or message.group not in run.waiting:
        turn.partition.drop("group finished before")
        return
    if sum(group == message.group for group, _ in run.parts) < message.parts:
        turn.partition.drop("group finished without its results")
        return
    run.waiting.discard(message.group)
    run.statuses.add(message.status)
    run.results.update(message.results)
    run.failures += message.failures
    run.failure_count += message.failure_count
    if message.failure_pages:
        run.failure_pages[message.group] = message.failure_pages
    run.counts += message.counts
    run.taken_over += message.taken_over
    run.warnings = tuple(dict.fromkeys((*run.warnings, *message.warnings)))
    if not run.waiting:
        finish(turn, run)


def _failed(turn: Turn, message: FailRun) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        end_if_lost(turn, message.run_id)
    elif is_of(run, message):
        fail(turn, run, message)
    else:
        turn.partition.drop("fault of an earlier run")


def _unknown(turn: Turn, message: RunUnknown) -> None:
    """Ask again, after the records that open the run: were they on their way, the answer comes to nothing. A run
    that has ended was nudged by somebody who missed its end, and is told of it."""
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        end_if_lost(turn, message.run_id)
        note_end_again(turn, message.run_id)
    else:
        check = CheckRun(run_id=run.run_id, admission=run.admission)
        turn.tell(turn.rules.names.groups, run.session_id, check)


def _overdue(turn: Turn, message: RunOverdue) -> None:
    """A run that is open here is stopped by its own timer. What the session's owner still has of any other is to
    stop: nobody else would end it."""
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        end_if_lost(turn, message.run_id)
    if run is None or run.admission > message.admission:
        order = StopRun(run_id=message.run_id, reason="timed_out", admission=message.admission)
        turn.tell(turn.rules.names.groups, message.session_id, order)


def _fragment(turn: Turn, message: Fragment) -> None:
    """The shell puts messages together; what is not whole yet changes nothing."""


_HANDLERS: dict[type[Message], Callable[[Turn, Any], None]] = {
    ClaimPartition: _claimed,
    SubmitRun: _submit,
    ControlRun: _control,
    TimerDue: _timer_due,
    GroupResults: _group_results,
    GroupFinished: _group_finished,
    FailRun: _failed,
    RunUnknown: _unknown,
    RunOverdue: _overdue,
    Fragment: _fragment,
}
