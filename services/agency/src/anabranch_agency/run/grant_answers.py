"""Takes the answers of the owners of concurrency keys to the wishes of runs. Pure."""

from __future__ import annotations

from anabranch.core.wire.messages import CheckGrant, GrantAnswer
from anabranch_agency.run.control import stop
from anabranch_agency.run.ending import has_admission, refuse_start
from anabranch_agency.run.run_places import place_checked, place_granted, return_unused
from anabranch_agency.run.state import Command
from anabranch_agency.run.turn import Turn


def grant_answered(turn: Turn, message: GrantAnswer) -> None:
    """Apply the answer to the wish of a run: start it, or end it."""
    run = turn.partition.runs.get(message.run_id)
    if run is None or not has_admission(run, message):
        turn.partition.drop("grant for a run that is not open")
        return_unused(turn, message)
    elif message.verdict == "refused":
        refuse_start(turn, run, message.because)
    elif message.verdict in ("revoked", "replaced"):
        stop(turn, run, "cancelled", Command("cancel", reason=message.because, at=turn.at))
    else:
        place_granted(turn, run, message)


def check_place(turn: Turn, message: CheckGrant) -> None:
    """Answer whether a run still needs its place."""
    run = turn.partition.runs.get(message.run_id)
    place_checked(turn, run if run is not None and has_admission(run, message) else None, message)
