"""Sub-runs, as the owner of the child sees them: requested once, commanded and answered to the parent. Pure.

A request of a sub-run is validated by the shell, which submits the child or rejects it. A child that its parent
cancelled before is not admitted, whenever its request comes.
"""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.core.wire.messages import ControlChild, ControlRun, ParentLink, SubmitChild
from anabranch.core.wire.run_record import RunRecord
from anabranch_agency.run.child_answers import answer_cancelled, answer_end, answer_final, answer_start, link_in
from anabranch_agency.run.control import control_run, stop
from anabranch_agency.run.ending import end_if_lost
from anabranch_agency.run.state import Command
from anabranch_agency.run.turn import Turn

CONFLICT = "its request id was used before, by a run that is no sub-run of this member"


@dataclass(frozen=True, slots=True)
class AdmitChild:
    """Validate the request of a sub-run, and submit or reject it."""

    message: SubmitChild


def submit_child(turn: Turn, message: SubmitChild) -> None:
    """Request a sub-run, or answer what became of it."""
    link = message.parent
    end_if_lost(turn, message.run_id)
    known = _record_of(turn, message.run_id)
    if known is not None:
        _answer_known(turn, message.run_id, known, link)
    elif is_stopped_early(turn, message.run_id):
        answer_cancelled(turn, message.run_id, link)
    elif message.run_id in turn.partition.ended_unrecorded:
        answer_end(turn, message.run_id, link, "lost")
    else:
        turn.effects.append(AdmitChild(message))


def control_child(turn: Turn, message: ControlChild) -> None:
    """Apply a command of the parent."""
    run_id, link = message.run_id, message.parent
    end_if_lost(turn, run_id)
    if message.action == "pause" or message.action == "resume":
        origin = f"{link.run_id}/{message.position}"
        control_run(turn, ControlRun(run_id=run_id, action=message.action, origin=origin))
        return
    known = _record_of(turn, run_id)
    action = "terminate" if message.action == "terminate" else "cancel"
    command = Command(action, f"run {link.run_id}", "the run of which it is a part ends", turn.at)
    if known is None and message.action != "check":
        if not is_stopped_early(turn, run_id):
            turn.partition.stop_early(run_id, command)
            control = ControlRun(run_id=run_id, action="cancel", by=command.by, reason=command.reason)
            turn.store_early(control, "stop")
        answer_cancelled(turn, run_id, link)
    elif known is None:
        is_stopped = is_stopped_early(turn, run_id)
        answer_end(turn, run_id, link, "cancelled" if is_stopped else "lost")
    else:
        run = turn.partition.runs.get(run_id)
        if message.action != "check" and run is not None and link_in(known.accepted) == link:
            # The end of the child is the answer.
            stop(turn, run, "cancelled", command)
        else:
            _answer_known(turn, run_id, known, link)


def _record_of(turn: Turn, run_id: str) -> RunRecord | None:
    run = turn.partition.runs.get(run_id)
    return run.tombstone if run is not None else turn.partition.tombstones.get(run_id)


def is_stopped_early(turn: Turn, run_id: str) -> bool:
    """Whether a run was cancelled before it was admitted."""
    return run_id in turn.partition.early_stops


def _answer_known(turn: Turn, run_id: str, known: RunRecord, link: ParentLink) -> None:
    if link_in(known.accepted) != link:
        answer_end(turn, run_id, link, "rejected", CONFLICT)
    elif known.final is None:
        answer_start(turn, run_id, link)
    else:
        answer_final(turn, run_id, known)
