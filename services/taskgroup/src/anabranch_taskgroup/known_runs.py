"""Which runs a session's owner knows, and what it answers about one that it does not. Pure.

A run that its owner does not know never ends by itself: its records are lost, or were removed by the retention of
the topic. Whoever asks after it is told so, and ends it as failed.
"""

from __future__ import annotations

from typing import Protocol

from anabranch.core.messages import FailRun, OpenRun, StopRun
from anabranch_taskgroup.state import Partition, Run
from anabranch_taskgroup.turn import Halt, Turn, Unwatch

ENDED = "ended"
LOST = "RunLost"


class _OfRun(Protocol):
    @property
    def run_id(self) -> str: ...

    @property
    def admission(self) -> int | None: ...


def is_known(partition: Partition, opening: OpenRun) -> bool:
    """Whether this admission of a run, or a later one, is open or has ended."""
    run = partition.runs.get(opening.run_id)
    if run is not None and run.admission >= opening.admission:
        return True
    tombstone = partition.tombstones.get(opening.run_id)
    return tombstone is not None and tombstone.reason == ENDED and tombstone.admission >= opening.admission


def open_run(turn: Turn, message: _OfRun) -> Run | None:
    """The open run that a message is about; None where that is not open, or another admission of it is."""
    run = turn.partition.runs.get(message.run_id)
    is_meant = run is not None and message.admission in (None, run.admission)
    return run if is_meant else None


def stop_unopened(turn: Turn, message: StopRun) -> None:
    """A stop of a run that is not open: it holds for the run if that is opened later. Its owner asked for the stop
    after it had opened the run, so the run's records are lost, unless it has ended; it is told in either case."""
    partition = turn.partition
    admission = message.admission or 0
    if message.run_id not in partition.runs and message.run_id not in partition.tombstones:
        partition.bury(message.run_id, message.reason, admission)
        turn.keep_in_session(message.run_id, message.reason, turn.offset, admission)
    partition.drop("stop of a run that is not open")
    answer_lost(turn, message.run_id, message.admission)


def answer_lost(turn: Turn, run_id: str, admission: int | None) -> None:
    """Tell the run's owner that nothing will come from here."""
    reason = (
        f"the owner of the session has no records of run {run_id}: they were removed from topic "
        f"{turn.rules.names.groups}, by its retention or with it, before the run had ended"
    )
    message = FailRun(run_id=run_id, error_type=LOST, message=reason, abandoned=True, admission=admission)
    turn.news(turn.rules.names.runs, run_id, message)


def abandon(turn: Turn, run: Run) -> None:
    """Give an open run up: workers stop its members, and what is still told of it is late."""
    turn.effects.append(Halt(run.run_id, run.session_id, "cancelled", admission=run.admission))
    for key in run.watched:
        turn.effects.append(Unwatch(run.run_id, run.session_id, key))
    turn.partition.runs.pop(run.run_id, None)
    turn.partition.timers.discard(run.run_id)
