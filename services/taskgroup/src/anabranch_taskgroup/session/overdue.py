"""What a session's owner does about a run that is still open after its deadline. Pure.

A run's owner stops the run at its deadline. Where its records are lost, or where it ended the run for that reason
without a word to this side, nobody would: members would go on, and what waits for a key would wait for ever.
"""

from __future__ import annotations

from anabranch.core.wire.messages import RunOverdue
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.timers import OVERDUE
from anabranch_taskgroup.session.turn import Turn

ASK_SECONDS = 30.0
"""After the deadline, or after a stop that did not end the run. Each further question waits twice as long."""


def first_question(since: float) -> float:
    """When the run's owner is asked for the first time, in seconds since the epoch."""
    return since + ASK_SECONDS


def ask_about_overdue(turn: Turn, run: Run, now: float) -> None:
    """Ask the run's owner about a run that should have been stopped by now, and schedule the next question."""
    run.asked += 1
    run.timers.schedule(OVERDUE, now + ASK_SECONDS * 2**run.asked)
    question = RunOverdue(run_id=run.run_id, session_id=run.session_id, admission=run.admission)
    turn.news(turn.rules.names.runs, run.run_id, question)
