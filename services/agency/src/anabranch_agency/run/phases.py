"""What the run's owner knows of the phases of a run's end, which the session's owner decides. Pure."""

from __future__ import annotations

from anabranch.core.request.models import COMPENSATE
from anabranch.core.wire.messages import GroupFinished, PhaseBegan
from anabranch_agency.run.state import Run
from anabranch_agency.run.turn import Turn


def begin_phase(turn: Turn, run: Run, message: PhaseBegan) -> None:
    """Note that a phase has begun, and wait for its end as long as it may take."""
    if message.phase not in run.waiting:
        turn.partition.drop("phase that has ended")
        return
    is_new = run.phase != message.phase
    run.phase, run.ends_by = message.phase, max(run.ends_by, message.until)
    turn.partition.arm(run)
    if is_new and message.phase == COMPENSATE:
        # The session's owner has lifted the pause of a run that was stopped.
        run.paused = False
        turn.event(run.run_id, run.tombstone, "run.compensating")


def note_compensation(run: Run, message: GroupFinished) -> None:
    """Note whether each compensation has completed. Compensations do not count among the members of the run."""
    counts = message.counts
    if counts.total:
        run.compensation = "complete" if counts.completed == counts.total else "incomplete"
