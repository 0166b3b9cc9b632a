"""The state of the owner of one partition of the topic `groups`. Data with invariants, no decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf

from anabranch.core.bounded import BoundedDict
from anabranch.core.due import DueQueue
from anabranch.core.snapshots import PartitionTrail
from anabranch_taskgroup.session.state import Run

SKEW_SECONDS = 60.0
"""Seconds by which the brokers' clocks may differ; `/readyz` reports a larger skew."""
MAX_TOMBSTONES = 20_000
"""Tombstones kept in memory. They let the owner recognize a message that comes late."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """The tombstone of a run: "ended", or the reason for which the run is to stop once it is opened."""

    reason: str
    admission: int
    at: float = 0.0
    """When the tombstone was added, in seconds since the epoch."""


@dataclass(slots=True)
class PartitionState:
    """The open runs of one partition, and the tombstones of others."""

    number: int
    generation: int = 0
    """Of the log; see `core.admissions`."""
    runs: dict[str, Run] = field(default_factory=dict)
    """By run id."""
    tombstones: BoundedDict[str, EndedRun] = field(default_factory=partial(BoundedDict, MAX_TOMBSTONES))
    """By run id: runs that ended, and runs that are to stop and have not been opened yet. Read by `tombstone`
    only: a read by `get` would change the order of eviction, which is part of the fold."""
    complete_from: float = inf
    """Seconds since the epoch: the fold knows each run that a record from then on opened or stopped."""
    dues: DueQueue[str] = field(default_factory=DueQueue)
    """Open runs by the time at which their earliest timer is due."""
    trail: PartitionTrail[Run] = field(default_factory=PartitionTrail)
    """How far the partition was read, and from where its runs are restored."""
    condition_runs: dict[str, set[str]] = field(default_factory=dict)
    """By session: the runs that may have a wait for a condition. A hint, not part of the fold."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Messages that changed nothing, counted by reason."""

    @property
    def opened(self) -> Mapping[str, Run]:
        """What a replay restores."""
        return self.runs

    def add_tombstone(self, run_id: str, reason: str, admission: int, at: float) -> None:
        """Remember that a run ended or is to stop, and evict the oldest tombstone if there are too many."""
        if len(self.tombstones) >= MAX_TOMBSTONES:
            oldest = next(iter(self.tombstones.values()))
            self.complete_from = max(self.complete_from, oldest.at)
        self.tombstones[run_id] = EndedRun(reason, admission, at)

    def begin(self, at: float) -> None:
        """Note the time of the first record that is folded."""
        if self.complete_from == inf:
            self.complete_from = at

    def may_be_unknown(self, run_id: str, submitted_at: float | None) -> bool:
        """True if the fold may lack what happened to a run before: then the store has to be asked.

        All records about an admission are on the log after its submission, so the fold lacks none of them if it
        began earlier than that, by the clocks of the brokers.

        Args:
            submitted_at: when the run was submitted, in seconds since the epoch; None if an earlier release opens
                it.
        """
        if run_id in self.runs or run_id in self.tombstones:
            return False
        return submitted_at is None or submitted_at - SKEW_SECONDS < self.complete_from

    def tombstone(self, run_id: str) -> EndedRun | None:
        """The tombstone of a run; None where the owner has none."""
        return self.tombstones.peek(run_id)

    def forget(self, run_id: str) -> None:
        """Drop an open run with its timers."""
        self.runs.pop(run_id, None)
        self.dues.cancel(run_id)

    def drop(self, reason: str) -> None:
        """Count a message that changed nothing."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def arm(self, run: Run) -> None:
        """Take over the earliest due time of a run's timers, after a turn that may have changed it."""
        due = run.timers.next_due()
        if due is None:
            self.dues.cancel(run.run_id)
        else:
            self.dues.schedule(run.run_id, due)

    def next_due(self) -> float | None:
        """When the earliest timer of any run is due, in seconds since the epoch."""
        return self.dues.next_due()

    def due(self, now: float) -> Sequence[Run]:
        """The runs that have a timer which is due. They stay due until a `timer` record of them is decided about,
        so a record that could not be published is published again."""
        return [self.runs[run_id] for run_id in self.dues.peek_due(now)]

    def oldest_open(self) -> int | None:
        """The lowest offset from which a replay restores each open run; None where no run is open."""
        return self.trail.oldest(self.runs)
