"""Offers waiting chunks at a higher level once the time by which their run is wanted is near. Pure."""

from __future__ import annotations

from anabranch.core.lanes import DAY, HOUR
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.timers import PRIORITY
from anabranch_taskgroup.session.turn import OfferChunk, Turn


def watch_deadline(turn: Turn, run: Run) -> None:
    """Set the timer for the next time at which the level of the run's chunks rises, if there is one."""
    assert run.due_at is not None
    for before in (DAY, HOUR):
        if turn.at < run.due_at - before:
            run.timers.bring_forward(PRIORITY, run.due_at - before)
            return


def raise_waiting(turn: Turn, run: Run) -> None:
    """Offer each chunk again that may wait for a worker: the level of an offer is that at its time."""
    found = False
    for group in run.groups.values():
        for task in group.tasks.values() if group.unfinished else ():
            if task.state is not TaskState.RUNNING:
                continue
            for number in sorted(task.waiting):
                task.chunks[number].offered_at = turn.at
                turn.effects.append(OfferChunk(run.run_id, group.name, task.name, number))
                found = True
    if found:
        watch_deadline(turn, run)
