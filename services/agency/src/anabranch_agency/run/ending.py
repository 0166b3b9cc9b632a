"""The end of a run: by its last group, by a fault of a service, or because its records are lost. Pure.

Each way leads to one final record, which is stored before it is published; later messages change nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from anabranch.core.admissions import UNKNOWN_ADMISSION, admission_at
from anabranch.core.retention import ttl_for
from anabranch.core.wire.messages import FailRun, Failure, StopRun
from anabranch.core.wire.results import final_event_id
from anabranch.core.wire.run_record import RunRecord
from anabranch.runtime.ownership.effects import StorePut
from anabranch_agency.run.child_answers import answer_final
from anabranch_agency.run.control import stop
from anabranch_agency.run.final import final_body, final_of_lost, final_without_results
from anabranch_agency.run.firing_answers import answer_firing
from anabranch_agency.run.run_places import give_place_back
from anabranch_agency.run.state import Run
from anabranch_agency.run.turn import Turn


class _OfRun(Protocol):
    @property
    def admission(self) -> int | None: ...


def has_admission(run: Run, message: _OfRun) -> bool:
    """Whether a message belongs to this run and not to an earlier run with the same id. Messages about runs that
    an earlier release opened have no admission."""
    return message.admission in (None, UNKNOWN_ADMISSION, run.admission)


def fail(turn: Turn, run: Run, message: FailRun) -> None:
    """Fail a run that a service cannot continue: stop its groups, or end it at once if they will not answer."""
    if not run.fault:
        run.fault = True
        note_failure(run, message.error_type, message.message, message.group, message.task)
    if message.abandoned:
        finish(turn, run)
    else:
        stop(turn, run, "cancelled")


def refuse_start(turn: Turn, run: Run, because: str) -> None:
    """End a run that found its concurrency key full, before it has started."""
    if run.held is None:
        turn.partition.drop("refusal of a run that has started")
        return
    run.held, run.place, run.fault = None, None, True
    note_failure(run, "ConcurrencyLimit", because)
    finish(turn, run)


def end_overdue(turn: Turn, run: Run) -> None:
    """End a stopped run whose groups have not answered in time, with the results that are known."""
    groups = ", ".join(sorted(run.waiting)[:5])
    message = f"the owner of the session did not answer the stop of the run in time; not ended: {groups}"
    note_failure(run, "StopUnanswered", message)
    # The groups that did not answer have no status, and without one the stop would not decide that of the run.
    if run.stopping is not None:
        run.statuses.add("timed_out" if run.stopping == "timed_out" else "cancelled")
    else:
        run.statuses.add("failed")
    finish(turn, run)


def end_if_lost(turn: Turn, run_id: str) -> None:
    """End a run that was admitted, has not ended, and whose records are gone from the log. The session's owner may
    still have it, and stops it. A rebuild publishes nothing, so it leaves the run to the next record about it. A
    run that a snapshot will restore is not lost."""
    if turn.partition.is_rebuilding or run_id in turn.partition.trail.awaited:
        return
    known = turn.partition.tombstones.get(run_id)
    if run_id in turn.partition.ended_unrecorded:
        turn.partition.drop("run that had ended, whose record in the store is older")
        return
    # A record from this offset on is of a later admission, which a replay has not reached yet.
    if run_id in turn.partition.runs or known is None or known.final is not None or known.offset >= turn.position:
        return
    reason = (
        f"the records of run {run_id} were removed from topic {turn.config.names.runs}, "
        "by its retention or with it, before the run had ended; or the store came back as it was before that"
    )
    failure = Failure(group="", task="", error_type="RunLost", message=reason)
    _end(turn, run_id, known, final_of_lost(known, failure, turn.at), turn.at, None)
    order = StopRun(run_id=run_id, reason="cancelled", admission=admission_at(known.offset))
    turn.publish(turn.config.names.groups, known.session_id, order)


def note_failure(
    run: Run, error_type: str, message: str, group: str | None = None, task: str | None = None
) -> None:
    """Add a failure of the run, or of one of its groups or tasks, in front of the failures of members."""
    failure = Failure(group=group or "", task=task or "", error_type=error_type, message=message)
    run.failures.insert(0, failure)
    run.failure_count += 1


def finish(turn: Turn, run: Run) -> None:
    """End a run with its final record. If its results cannot be encoded, the record has the reason instead of
    them."""
    try:
        body, stored_values = final_body(turn.config.names, run, turn.at, turn.config.result_bytes)
    except (TypeError, ValueError, RecursionError) as error:
        note_failure(run, "InternalError", f"the results cannot be written: {type(error).__name__}: {error}")
        run.fault = True
        body, stored_values = final_without_results(turn.config.names, run, turn.at), []
    ttl = ttl_for(run.deadline, turn.at, turn.config.result_ttl)
    # Not fenced: every owner writes the same value under this key, and the scope is the session, not the run.
    for stored in stored_values:
        turn.effects.append(StorePut(run.session_id, stored.key, stored.value, ttl, fenced=False))
    _end(turn, run.run_id, run.tombstone, body, run.deadline, run.traceparent)
    if run.place is not None:
        give_place_back(turn, run, run.place)
    turn.ended.append((run, body["status"]))


def _end(
    turn: Turn, run_id: str, known: RunRecord, body: dict[str, Any], deadline: float, traceparent: str | None
) -> None:
    ended = replace(known, final=body, ended_at=turn.at)
    turn.store_record(run_id, ended, deadline)
    _note_end(turn, run_id, ended, body)
    publish_final(turn, run_id, ended, traceparent)
    if "parent" in ended.accepted:
        answer_final(turn, run_id, ended)
    if "schedule" in ended.accepted:
        answer_firing(turn, run_id, ended)
    turn.partition.close(run_id, ended)


def _reason(failures: list[dict[str, Any]]) -> dict[str, Any]:
    """Error type and message of a failure of the run itself, for its last event: no event of a task has them."""
    found = next((each for each in failures if not each["group"]), None)
    return {} if found is None else {"error_type": found["error_type"], "message": found["message"]}


def _note_end(turn: Turn, run_id: str, ended: RunRecord, body: dict[str, Any]) -> None:
    shown = {name: body[name] for name in ("status", "executions", "failure_count")} | _reason(body["failures"])
    command = body.get("stopped_by")
    if command is not None:
        shown |= {name: value for name, value in command.items() if value is not None and name != "at"}
    turn.event(run_id, ended, f"run.{body['status']}", **shown)


def republish_end(turn: Turn, run_id: str) -> None:
    """Add the event of an ended run's end again, unless this turn has it. Readers drop the duplicate."""
    known = turn.partition.tombstones.get(run_id)
    if known is not None and known.final is not None and not turn.events:
        _note_end(turn, run_id, known, known.final)


def publish_final(turn: Turn, run_id: str, ended: RunRecord, traceparent: str | None) -> None:
    """Publish the final record of an ended run. Publishing it again gives the same record."""
    assert ended.final is not None
    assert ended.ended_at is not None
    turn.publish_result(
        f"run.{ended.final_status}",
        final_event_id(run_id),
        ended.final,
        at=ended.ended_at,
        key=run_id,
        traceparent=traceparent,
    )
