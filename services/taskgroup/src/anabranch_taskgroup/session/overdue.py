"""Asks the run's owner about a run that is still open after its deadline. Pure.

The run's owner stops a run at its deadline. If it lost the run's records, or ended the run without a stop that
reached the session, no stop ever comes: without the question members would run on, and waiting steps would never
end.
"""

from __future__ import annotations

from anabranch.core.wire.messages import RunOverdue
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.timers import OVERDUE
from anabranch_taskgroup.session.turn import Turn

ASK_SECONDS = 30.0
"""Seconds from the deadline, or from a stop that did not end the run, to the first question. The interval
doubles."""


def first_question(since: float) -> float:
    """When the run's owner is first asked, in seconds since the epoch."""
    return since + ASK_SECONDS


def ask_about_overdue(turn: Turn, run: Run, now: float) -> None:
    """Ask the run's owner about a run that should have been stopped by now, and schedule the next question."""
    run.overdue_questions += 1
    run.timers.schedule(OVERDUE, now + ASK_SECONDS * 2**run.overdue_questions)
    question = RunOverdue(run_id=run.run_id, session_id=run.session_id, admission=run.admission)
    turn.publish(turn.config.names.runs, run.run_id, question)
