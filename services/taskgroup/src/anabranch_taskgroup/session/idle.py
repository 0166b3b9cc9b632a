"""Computes the hint for the event manager whether an open run is idle. No decision depends on it.

A run is idle while nothing of it is under way and the reason is known: it is paused, or waits for keys from
outside, for a decision on held members, or for a retry that is not due. The event manager nudges the owner of any
other open run that is silent.
"""

from __future__ import annotations

from collections.abc import Iterable

from anabranch.core.wire.events import EventEntry
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.retry_import import has_all_groups
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.steps.kind import Activity
from anabranch_taskgroup.session.steps.registry import kind_of, open_steps


def is_idle(run: Run) -> bool:
    """True if nothing of the run is under way, for a known reason."""
    if run.importing_from is not None or not has_all_groups(run):
        return False
    steps = open_steps(run)
    activities = {
        kind_of(task).activity(task) if task.judging is None else Activity.WORKING for _, _, task in steps
    }
    if Activity.WORKING in activities:
        return False
    return run.paused or bool(run.watched) or Activity.RESTING in activities


class IdleHints:
    """The last hint about each open run. It is lost with the process, and repeated with the next batch of
    events."""

    def __init__(self) -> None:
        self._idle: set[str] = set()

    def now(self, state: PartitionState, run: Run, entries: Iterable[EventEntry] = ()) -> bool:
        """Return the hint for a batch of events, and remember it. Reads the run's tasks only if it may be
        idle."""
        may_be = run.paused or bool(run.watched) or run.timers.has_work or run.run_id in self._idle
        may_be = may_be or run.signals is not None
        for entry in entries:
            may_be = may_be or entry.type == "task.failed"
        idle = may_be and run.run_id in state.runs and is_idle(run)
        (self._idle.add if idle else self._idle.discard)(run.run_id)
        return idle

    def has_changed(self, state: PartitionState, run: Run) -> bool:
        """True if the hint differs from the last one. Remembers the new one."""
        before = run.run_id in self._idle
        return self.now(state, run) != before
