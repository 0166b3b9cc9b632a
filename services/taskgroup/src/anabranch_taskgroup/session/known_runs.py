"""Which runs a session's owner knows, and what it answers about one that it does not. Pure.

A run that its owner does not know never ends by itself: its records are lost, or were removed by the retention of
the topic. Whoever asks after it is told so, and ends it as failed.
"""

from __future__ import annotations

from typing import Protocol

from anabranch.core.admissions import UNTOLD
from anabranch.core.wire.messages import FailRun, OpenRun, StopReason, StopRun
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.turn import Halt, Turn, Unwatch

ENDED = "ended"
LOST = "RunLost"


class _OfRun(Protocol):
    @property
    def run_id(self) -> str: ...

    @property
    def admission(self) -> int | None: ...


def is_known(partition: PartitionState, opening: OpenRun) -> bool:
    """Whether this admission of a run, or a later one, is open or has ended; or one that told no admission,
    which is this one, opened once more by a run's owner that was upgraded meanwhile."""
    run = partition.runs.get(opening.run_id)
    known = run.admission if run is not None else _ended_admission(partition, opening.run_id)
    return known is not None and (known == UNTOLD or known >= opening.admission)


def _ended_admission(partition: PartitionState, run_id: str) -> int | None:
    tombstone = partition.tombstone(run_id)
    return tombstone.admission if tombstone is not None and tombstone.reason == ENDED else None


def opened_before(turn: Turn, opening: OpenRun) -> None:
    """A run is opened that is known. Where one ended that told no admission, it need not be this one: the run's
    owner is told that nothing will come, which it drops if it knows how the run ended."""
    turn.partition.drop("run opened before")
    is_open = opening.run_id in turn.partition.runs
    may_be_another = opening.admission != UNTOLD == _ended_admission(turn.partition, opening.run_id)
    if may_be_another and not is_open:
        answer_lost(turn, opening.run_id, opening.admission)


def early_stop(partition: PartitionState, opening: OpenRun) -> StopReason | None:
    """The reason of a stop that came before the run was opened, if it is of this admission."""
    stop = partition.tombstones.pop(opening.run_id, None)
    if stop is None or stop.reason == ENDED or (stop.admission != UNTOLD and stop.admission < opening.admission):
        return None
    return "timed_out" if stop.reason == "timed_out" else "cancelled"


def open_run(turn: Turn, message: _OfRun) -> Run | None:
    """The open run that a message is about; None where that is not open, or another admission of it is."""
    run = turn.partition.runs.get(message.run_id)
    return run if run is not None and is_meant(run, message.admission) else None


def is_meant(run: Run, admission: int | None) -> bool:
    """True if a message which names this admission is about the open run. One that names another was written in an
    earlier life of the log."""
    return run.admission == UNTOLD or admission in (None, run.admission)


def stop_unopened(turn: Turn, message: StopRun) -> None:
    """A stop of a run that is not open: it holds for the run if that is opened later. Its owner asked for the stop
    after it had opened the run, so the run's records are lost, unless it has ended; it is told in either case."""
    partition = turn.partition
    admission = message.admission or 0
    if message.run_id not in partition.runs and message.run_id not in partition.tombstones:
        partition.add_tombstone(message.run_id, message.reason, admission)
        turn.keep_in_session(message.run_id, message.reason, turn.offset, admission)
    partition.drop("stop of a run that is not open")
    answer_lost(turn, message.run_id, message.admission)


def give_up_incomplete(turn: Turn, run: Run) -> None:
    """A run is stopped once more and still lacks groups: their records stood before the stops, and are lost."""
    abandon(turn, run)
    turn.partition.add_tombstone(run.run_id, ENDED, run.admission)
    turn.keep_in_session(run.run_id, ENDED, run.opened_at_offset, run.admission)
    answer_lost(turn, run.run_id, run.admission)


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
    turn.partition.forget(run.run_id)
