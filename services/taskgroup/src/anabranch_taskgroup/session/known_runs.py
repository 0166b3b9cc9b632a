"""Which runs the session's owner knows, and what it answers about a run that it does not know. Pure.

A run that the owner does not know never ends by itself: its records are lost, or were removed by the retention of
the topic. The answer to a question about it is `FailRun`, by which the run's owner ends it as failed.
"""

from __future__ import annotations

from typing import Protocol

from anabranch.core.admissions import UNKNOWN_ADMISSION
from anabranch.core.wire.messages import FailRun, OpenRun, StopReason, StopRun
from anabranch_taskgroup.session.children import command
from anabranch_taskgroup.session.event_waits import stop_waiting
from anabranch_taskgroup.session.limit_returns import return_all
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
    """True if this admission of a run, or a later one, is open or has ended.

    Also true if the known one has no admission: it is this one, and a run's owner that was upgraded meanwhile has
    opened it again."""
    run = partition.runs.get(opening.run_id)
    known = run.admission if run is not None else _ended_admission(partition, opening.run_id)
    return known is not None and (known == UNKNOWN_ADMISSION or known >= opening.admission)


def _ended_admission(partition: PartitionState, run_id: str) -> int | None:
    tombstone = partition.tombstone(run_id)
    return tombstone.admission if tombstone is not None and tombstone.reason == ENDED else None


def drop_reopening(turn: Turn, opening: OpenRun) -> None:
    """Drop the opening of a known run. If the known one has ended without an admission, it may be another run of
    the same id: the answer is that this one is lost, which the run's owner drops if it knows how the run ended."""
    turn.partition.drop("run opened before")
    is_open = opening.run_id in turn.partition.runs
    may_be_another = opening.admission != UNKNOWN_ADMISSION == _ended_admission(turn.partition, opening.run_id)
    if may_be_another and not is_open:
        answer_lost(turn, opening.run_id, opening.admission)


def early_stop(partition: PartitionState, opening: OpenRun) -> StopReason | None:
    """The reason of a stop that was read before the run was opened; None where there is none for this
    admission."""
    stop = partition.tombstones.pop(opening.run_id, None)
    if (
        stop is None
        or stop.reason == ENDED
        # A stop without an admission is of an earlier release, and counts for any admission.
        or (stop.admission != UNKNOWN_ADMISSION and stop.admission < opening.admission)
    ):
        return None
    return "timed_out" if stop.reason == "timed_out" else "cancelled"


def open_run(turn: Turn, message: _OfRun) -> Run | None:
    """The open run that a message is about; None if it is not open, or open in another admission."""
    run = turn.partition.runs.get(message.run_id)
    return run if run is not None and has_admission(run, message.admission) else None


def has_admission(run: Run, admission: int | None) -> bool:
    """True if a message which names this admission is about the open run. One that names another was written in an
    earlier life of the log."""
    return run.admission == UNKNOWN_ADMISSION or admission in (None, run.admission)


def remember_early_stop(turn: Turn, message: StopRun) -> None:
    """Keep a stop of a run that is not open, for the case that the run is opened later.

    The run's owner publishes a stop after the opening, so the run's records are lost or the run has ended: the
    answer says that it is lost, and is dropped if it has ended."""
    partition = turn.partition
    admission = message.admission or 0
    # An end must not be replaced by a stop, and of two stops the first reason is kept.
    if message.run_id not in partition.runs and message.run_id not in partition.tombstones:
        partition.add_tombstone(message.run_id, message.reason, admission, turn.at)
        turn.store_tombstone(message.run_id, message.reason, turn.offset, admission)
    partition.drop("stop of a run that is not open")
    answer_lost(turn, message.run_id, message.admission)


def abandon_incomplete(turn: Turn, run: Run) -> None:
    """Abandon a run that is stopped a second time and still lacks groups: their records preceded both stops on the
    log, so they are lost."""
    abandon(turn, run)
    turn.partition.add_tombstone(run.run_id, ENDED, run.admission, turn.at)
    turn.store_tombstone(run.run_id, ENDED, run.opened_at_offset, run.admission)
    answer_lost(turn, run.run_id, run.admission)


def answer_lost(turn: Turn, run_id: str, admission: int | None) -> None:
    """Answer to the run's owner that the session's owner has no records of the run."""
    reason = (
        f"the owner of the session has no records of run {run_id}: they were removed from topic "
        f"{turn.config.names.groups}, by its retention or with it, before the run had ended"
    )
    message = FailRun(run_id=run_id, error_type=LOST, message=reason, abandoned=True, admission=admission)
    turn.publish(turn.config.names.runs, run_id, message)


def abandon(turn: Turn, run: Run) -> None:
    """Forget an open run: workers stop its members, and later messages about it are dropped."""
    turn.effects.append(Halt(run.run_id, run.session_id, "cancelled", admission=run.admission))
    for group in run.groups.values():
        for task in group.tasks.values():
            if task.children:
                command(turn, run, task, "cancel")
            if task.waits is not None and task.waits.keys:
                stop_waiting(turn, run, task, 0, task.waits.opened)
            if task.limits is not None:
                return_all(turn, run, task)
    for key in run.watched:
        turn.effects.append(Unwatch(run.run_id, run.session_id, key))
    turn.partition.forget(run.run_id)
