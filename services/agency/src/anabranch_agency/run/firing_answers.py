"""What the owner of a run answers to the owner of the schedule whose firing the run is. Pure."""

from __future__ import annotations

from typing import Any

from anabranch.core.wire.messages import FiringEnded, FiringStarted, ScheduleLink, SubmitRun
from anabranch.core.wire.run_record import RunRecord
from anabranch.core.wire.schedule_messages import FiringStatus
from anabranch_agency.run.turn import Turn

MAX_MESSAGE = 1_000


def answer_firing(turn: Turn, run_id: str, known: RunRecord) -> None:
    """Tell the schedule that the run was admitted, or how it has ended; nothing for other runs."""
    link = _link_in(known.accepted)
    if link is None:
        return
    if known.final is None:
        started = FiringStarted(run_id=link.address, firing=run_id, at=link.at)
        turn.publish(turn.config.names.runs, link.address, started)
    else:
        _end(turn, run_id, link, known.final["status"])


def reject_firing(turn: Turn, submit: SubmitRun, why: str) -> None:
    """Tell the schedule that the request of its firing was refused."""
    if submit.schedule is not None:
        _end(turn, submit.run_id, submit.schedule, "rejected", why[:MAX_MESSAGE])


def _end(turn: Turn, run_id: str, link: ScheduleLink, status: FiringStatus, why: str = "") -> None:
    ended = FiringEnded(run_id=link.address, firing=run_id, at=link.at, status=status, message=why)
    # After the final record of the run: the next firing must not start before that.
    turn.publish_last(turn.config.names.runs, link.address, ended)


def _link_in(accepted: dict[str, Any]) -> ScheduleLink | None:
    found = accepted.get("schedule")
    return None if found is None else ScheduleLink.model_validate(found)
