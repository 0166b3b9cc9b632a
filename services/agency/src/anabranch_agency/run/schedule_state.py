"""A schedule: the state of its owner. Data with invariants, no decisions. Pure.

Its owner treats it as an open run: it has a pin, snapshots and a timer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from anabranch.core.names import run_id_for
from anabranch.core.schedules.models import Schedule
from anabranch.core.schedules.reading import rule_of
from anabranch.core.schedules.times import Rule, firing_id, jitter_of
from anabranch.core.snapshots import RunTrail
from anabranch.core.wire.messages import Json
from anabranch.core.wire.schedule_messages import FiringSource

MAX_HISTORY = 100
"""Firings that are remembered once they have ended or were missed."""
MAX_WAITING = 1_000
"""Firings that wait for the end of an earlier one. Further ones are missed."""
MissedReason = Literal["overlap", "window", "buffer", "paused", "limit"]


@dataclass(slots=True)
class Firing:
    """A firing whose run has not ended, or that waits. `at` is its logical time in seconds since the epoch."""

    at: float
    run_id: str
    source: FiringSource = "clock"
    started: bool = False
    """True once its run was admitted."""


@dataclass(slots=True)
class PastFiring:
    """A firing that has ended, or was missed: then `status` is ``missed``, and `reason` says why."""

    at: float
    status: str
    source: FiringSource = "clock"
    run_id: str | None = None
    ended_at: float | None = None
    reason: str | None = None


@dataclass(slots=True)
class Backfill:
    """Logical times that are still to be fired, after `after` up to `end`."""

    after: float
    end: float
    overlap: Literal["buffer_all", "allow"] = "buffer_all"


@dataclass(frozen=True, slots=True)
class Parsed:
    """The document of a schedule, read."""

    schedule: Schedule
    rule: Rule


@dataclass(slots=True)
class ScheduleState:
    """A schedule with its firings."""

    run_id: str
    """Its address."""
    opened_at_offset: int
    id: str
    project: str
    document: dict[str, Json]
    next_at: float | None = None
    """The next logical time; None if there is none."""
    due: float = inf
    """When its owner looks at it, in seconds since the epoch."""
    open: dict[str, Firing] = field(default_factory=dict)
    """By run id."""
    waiting: list[Firing] = field(default_factory=list)
    backfills: list[Backfill] = field(default_factory=list)
    fired: int = 0
    """Firings by the clock that became runs."""
    paused: bool = False
    paused_by: dict[str, Json] | None = None
    """`{"by", "reason", "at"}`."""
    missed: dict[str, int] = field(default_factory=dict)
    """Number of missed firings by reason."""
    history: list[PastFiring] = field(default_factory=list)
    """The oldest first."""
    observed: dict[str, int] = field(default_factory=dict)
    """The offset of the last control record of each partition of `requests`."""
    trail: RunTrail = field(default_factory=RunTrail, compare=False)
    """What the log has of the schedule: no part of its state."""
    parsed: Parsed | None = field(default=None, compare=False, repr=False)
    """Derived from the document."""
    admission: int = 0
    """Of a run: a schedule has none."""

    @property
    def rules(self) -> Parsed:
        """The schedule as its document says."""
        if self.parsed is None:
            schedule = Schedule.model_validate(self.document)
            self.parsed = Parsed(schedule, rule_of(schedule))
        return self.parsed

    def firing(self, at: float, source: FiringSource) -> Firing:
        """The firing of a logical time."""
        return Firing(at, run_id_for(firing_id(self.id, at)), source)

    def starts_at(self, at: float) -> float:
        """When the firing of a logical time starts."""
        return at + jitter_of(self.id, at, self.rules.schedule.jitter or 0.0)

    def observes(self, origin: str) -> bool:
        """Note a control record by its position `topic/partition/offset`. False if it, or a later one of the same
        partition, was applied before."""
        partition, _, offset = origin.rpartition("/")
        if not partition:
            return True
        last = self.observed.get(partition, -1)
        self.observed[partition] = max(int(offset), last)
        return int(offset) > last

    def has_run(self, run_id: str) -> bool:
        """True if a firing is under way, or its run is in the history. A rejected one has none."""
        return run_id in self.open or any(
            past.run_id == run_id and past.status != "rejected" for past in self.history
        )

    def remember(self, past: PastFiring) -> None:
        """Add a firing to the history."""
        self.history.append(past)
        del self.history[:-MAX_HISTORY]

    def view(self) -> Mapping[str, Any]:
        """The view in the store; see `core.schedules.views`."""
        return {
            "id": self.id,
            "project": self.project,
            "schedule": self.document,
            "paused": self.paused,
            "paused_by": self.paused_by,
            "fired": self.fired,
            "missed": self.missed,
            "next_at": self.next_at,
            "running": [_shown(each) for each in self.open.values()],
            "waiting": [_shown(each) for each in self.waiting],
            "history": [
                {name: getattr(each, name) for name in ("at", "status", "source", "run_id", "ended_at", "reason")}
                for each in reversed(self.history)
            ],
        }


def _shown(firing: Firing) -> dict[str, Any]:
    return {"at": firing.at, "run_id": firing.run_id, "source": firing.source}
