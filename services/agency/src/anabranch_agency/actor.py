"""The run's owner: admits once, starts its groups, joins them into the final record. Pure.

State and message to new state and effects; a fold over the log. It may be given any message twice and any
prefix of its messages again. Time is the record's timestamp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anabranch.core.cloudevents import rfc3339
from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.messages import (
    ClaimPartition,
    ControlRun,
    GroupFinished,
    GroupResults,
    Message,
    SubmitRun,
    TimerDue,
)
from anabranch.core.planning import Plan, plan
from anabranch.core.request import Request
from anabranch.core.results import final_event_id
from anabranch.runtime.effects import Put
from anabranch_agency.control import control_run, pause, stop
from anabranch_agency.final import final_body
from anabranch_agency.planning import open_run, start_groups
from anabranch_agency.state import Partition, Run, Tombstone
from anabranch_agency.turn import Rules, Turn, refuse


def decide(rules: Rules, partition: Partition, message: Message, offset: int, at: float) -> Turn:
    """Apply one message to the partition's state; the turn holds the effects and events."""
    turn = Turn(rules, partition, offset, at)
    _HANDLERS[type(message)](turn, message)
    return turn


def give_up(rules: Rules, partition: Partition, message: Message, offset: int, at: float, why: str) -> Turn:
    """What follows where deciding about a message failed: a request that was being admitted is refused."""
    turn = Turn(rules, partition, offset, at)
    partition.drop("record that met a bug")
    if isinstance(message, SubmitRun):
        run = partition.runs.get(message.run_id)
        if run is not None and run.tombstone.offset == offset:
            del partition.runs[message.run_id]
        problem = Problem(
            Code.INTERNAL, "", why[:2_000], "this is a fault of the agency: its log has the traceback"
        )
        refuse(turn, message, [problem], message.warnings)
    return turn


def _claimed(turn: Turn, message: ClaimPartition) -> None:
    """Claims are the shell's business."""


# --- admission -----------------------------------------------------------------------------------


def _submit(turn: Turn, submit: SubmitRun) -> None:
    known = _known(turn, submit)
    if known is None:
        _admit(turn, submit)
    elif known.body_hash not in (None, submit.body_hash):
        refuse(turn, submit, [_conflict()], submit.warnings)
    else:
        _tell_again(turn, submit.run_id, known, submit.traceparent)


def _known(turn: Turn, submit: SubmitRun) -> Tombstone | None:
    """The run that the same request id made before. A tombstone of this very record is none: it is replayed."""
    run = turn.partition.runs.get(submit.run_id)
    known = run.tombstone if run is not None else turn.partition.tombstones.get(submit.run_id)
    return None if known is None or known.offset == turn.offset else known


def _conflict() -> Problem:
    return Problem(
        Code.REQUEST_ID_CONFLICT,
        "/request_id",
        "this request id was used before, with another body",
        "send the same body to get the first run's result, or take a new id",
    )


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
    tombstone = Tombstone(
        body_hash=submit.body_hash,
        offset=turn.offset,
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
    turn.tell(groups, run.session_id, open_run(submit, made, run.deadline, run.tombstone.accepted_at))
    for start in start_groups(run.run_id, made):
        turn.tell(groups, run.session_id, start)
    if submit.run_id in turn.partition.early_pauses:
        pause(turn, run, paused=True)
    if submit.run_id in turn.partition.early_stops:
        stop(turn, run, "cancelled")


def _accept(turn: Turn, run_id: str, known: Tombstone, traceparent: str | None) -> None:
    turn.announce(
        "run.accepted",
        f"{run_id}/accepted",
        known.accepted,
        at=known.accepted_at,
        key=run_id,
        traceparent=traceparent,
    )


def _tell_again(turn: Turn, run_id: str, known: Tombstone, traceparent: str | None) -> None:
    """The same request once more: its sender gets what the first one got, under the same ids."""
    turn.partition.drop("submitted before")
    _accept(turn, run_id, known, traceparent)
    if known.final is not None:
        _tell_final(turn, run_id, known, traceparent)


# --- time ------------------------------------------------------------------------------------------


def _timer_due(turn: Turn, timer: TimerDue) -> None:
    run = turn.partition.runs.get(timer.run_id)
    if run is not None and run.deadline <= timer.at:
        stop(turn, run, "timed_out")


# --- the join ------------------------------------------------------------------------------------


def _group_results(turn: Turn, message: GroupResults) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None or (message.group, message.part) in run.parts:
        turn.partition.drop("results known before")
        return
    run.parts.add((message.group, message.part))
    run.results.update(message.results)


def _group_finished(turn: Turn, message: GroupFinished) -> None:
    """Tick a group off; the last one ends the run, and no other record can."""
    run = turn.partition.runs.get(message.run_id)
    if run is None or message.group not in run.waiting:
        turn.partition.drop("group finished before")
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
        _finish(turn, run)


def _finish(turn: Turn, run: Run) -> None:
    body, asides = final_body(turn.rules.names, run, turn.at)
    ttl = max(0.0, run.deadline - turn.at) + turn.rules.result_ttl
    for aside in asides:
        turn.effects.append(Put(run.session_id, aside.key, aside.value, ttl, fenced=False))
    known = run.tombstone
    ended = Tombstone(
        body_hash=known.body_hash,
        offset=known.offset,
        session_id=known.session_id,
        request_id=known.request_id,
        accepted=known.accepted,
        accepted_at=known.accepted_at,
        final=body,
        ended_at=turn.at,
    )
    turn.keep(run.run_id, ended, run.deadline)
    status = body["status"]
    shown = {"status": status, "executions": body["executions"], "failure_count": run.failure_count}
    turn.event(run.run_id, ended, f"run.{status}", **shown)
    _tell_final(turn, run.run_id, ended, run.traceparent)
    turn.ended.append((run, status))
    turn.partition.bury(run.run_id, ended)


def _tell_final(turn: Turn, run_id: str, ended: Tombstone, traceparent: str | None) -> None:
    assert ended.final is not None
    assert ended.ended_at is not None
    turn.announce(
        f"run.{ended.final['status']}",
        final_event_id(run_id),
        ended.final,
        at=ended.ended_at,
        key=run_id,
        traceparent=traceparent,
    )


_HANDLERS: dict[type[Message], Callable[[Turn, Any], None]] = {
    ClaimPartition: _claimed,
    SubmitRun: _submit,
    ControlRun: control_run,
    TimerDue: _timer_due,
    GroupResults: _group_results,
    GroupFinished: _group_finished,
}
