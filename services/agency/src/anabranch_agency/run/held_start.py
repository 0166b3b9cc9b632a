"""Runs that start later: admitted at once, and not known to the owner of their session before they start. Pure.

A stop before its start starts the run and stops it in the same turn, as a stop that came before the request does.
So it ends like any other stopped run.
"""

from __future__ import annotations

from dataclasses import replace

from anabranch.core.timestamps import utc_text
from anabranch.core.wire.messages import SubmitRun
from anabranch_agency.run.early_signals import MAX_BYTES, MAX_SIGNALS, EarlySignal
from anabranch_agency.run.forwarding import send_pause, send_signal
from anabranch_agency.run.known_plans import PlannedRequest
from anabranch_agency.run.opening import open_run, start_groups
from anabranch_agency.run.state import HeldStart, Run
from anabranch_agency.run.turn import Turn


def hold_start(turn: Turn, run: Run, submit: SubmitRun, until: float) -> None:
    """Admit a run that starts later."""
    hold(run, submit, until)
    turn.partition.arm(run)
    turn.event(run.run_id, run.tombstone, "run.scheduled", not_before=until)


def hold(run: Run, submit: SubmitRun, until: float) -> None:
    """Keep the request of a run that does not start yet."""
    run.held = HeldStart(submit, until)


def note_queued(turn: Turn, run: Run, key: str, ahead: int, held_by: str) -> None:
    """A run waits for its place under a concurrency key."""
    turn.event(run.run_id, run.tombstone, "run.queued", key=key, position=ahead + 1, because=held_by)


def open_session(turn: Turn, submit: SubmitRun, planned: PlannedRequest, run: Run) -> None:
    """Publish the messages that open a run at its session's owner, and start its groups."""
    groups = turn.config.names.groups
    turn.publish(groups, run.session_id, open_run(submit, planned, run, turn.config))
    for start in start_groups(run, planned):
        turn.publish_encoded(groups, run.session_id, start)


def begin(turn: Turn, run: Run) -> None:
    """Start a run that was held, with the pause and the signals that came meanwhile.

    Raises:
        RequestRefused: a later release refuses its request.
    """
    held = run.held
    assert held is not None
    planned = turn.config.plans.of(held.submit)
    run.held = None
    run.tombstone = replace(run.tombstone, is_started=True)
    turn.store_record(run.run_id, run.tombstone, run.deadline)
    turn.event(run.run_id, run.tombstone, "run.started")
    open_session(turn, held.submit, planned, run)
    if run.paused:
        send_pause(turn, run)
    for signal in held.signals.values():
        send_signal(turn, run, signal.name, signal.value, signal.signal_id)
    turn.partition.arm(run)


def keep_signal(held: HeldStart, signal: EarlySignal) -> bool:
    """Keep a signal for the start of a run; a repeated id is kept once. False if it has as many as are kept."""
    if signal.signal_id in held.signals:
        return True
    size = sum(each.size for each in held.signals.values()) + signal.size
    if len(held.signals) >= MAX_SIGNALS or size > MAX_BYTES:
        return False
    held.signals[signal.signal_id] = signal
    return True


def scheduled_fields(until: float) -> dict[str, str]:
    """The fields of the record of acceptance of a run that starts later."""
    return {"status": "scheduled", "not_before": utc_text(until)}
