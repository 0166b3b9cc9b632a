"""Whether an open run may be silent for long by right, which the event manager is told: a hint, never a decision.

A run is quiet while nothing of it is under way: it is paused, or waits for keys from outside, for a decision on
held members, or for a retry that is not due. Silence of any other open run is worth a nudge.
"""

from __future__ import annotations

from collections.abc import Iterable

from anabranch.core.wire.events import EventEntry
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.steps.kind import Activity
from anabranch_taskgroup.session.steps.registry import kind_of, open_steps


def is_quiet(run: Run) -> bool:
    """Whether nothing is under way, and that is explained."""
    if run.taking is not None or not all(
        name in run.groups and run.groups[name].is_known for name in run.expected
    ):
        return False
    activities = {kind_of(step.task).activity(step.task) for step in open_steps(run)}
    if Activity.WORKING in activities:
        return False
    return run.paused or bool(run.watched) or Activity.RESTING in activities


class Hints:
    """What was told of each open run. Lost with the process: the next batch of events says it again."""

    def __init__(self) -> None:
        self._quiet: set[str] = set()

    def now(self, state: PartitionState, run: Run, entries: Iterable[EventEntry] = ()) -> bool:
        """Whether the run is quiet; remembered as told. Looks at its tasks only where it may be."""
        may_be = run.paused or run.watched or run.timers.has_work or run.run_id in self._quiet
        may_be = may_be or any(entry.type == "task.failed" for entry in entries)
        quiet = bool(may_be) and run.run_id in state.runs and is_quiet(run)
        (self._quiet.add if quiet else self._quiet.discard)(run.run_id)
        return quiet

    def has_changed(self, state: PartitionState, run: Run) -> bool:
        """Whether something else is to be told than was."""
        before = run.run_id in self._quiet
        return self.now(state, run) != before
