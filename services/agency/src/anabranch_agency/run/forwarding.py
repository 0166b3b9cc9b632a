"""What a run's owner forwards to the owner of its session: signals, and that the run is paused. Pure."""

from __future__ import annotations

from anabranch.core.json_documents import dumps
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import Json, PauseRun, SignalRun
from anabranch_agency.run.state import Run
from anabranch_agency.run.turn import Turn


def send_signal(turn: Turn, run: Run, name: str, value: Json, signal_id: str) -> None:
    """Forward a signal to the session's owner, which gives it to a wait."""
    message = SignalRun(run_id=run.run_id, name=name, signal_id=signal_id, admission=run.admission)
    turn.publish_encoded(turn.config.names.groups, run.session_id, encode(message, [dumps(value)]))


def send_pause(turn: Turn, run: Run) -> None:
    """Tell the session's owner whether the run is paused."""
    # By the cause, the session's owner drops a message that arrives after a later one.
    message = PauseRun(run_id=run.run_id, paused=run.paused, cause=turn.offset, admission=run.admission)
    turn.publish(turn.config.names.groups, run.session_id, message)
