"""The logical times of a schedule: a pure function of its rule and the time before. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from hashlib import sha256
from math import floor
from zoneinfo import ZoneInfo

from anabranch.core.schedules.cron import Cron
from anabranch.core.schedules.zones import local_time, start_of
from anabranch.core.timestamps import LATEST, utc_text

MAX_EXCEPTED = 10_000
"""Looks in a row that find a time which `except` leaves out, of a minute, an hour or a day each. A schedule that
leaves out more has no further time."""
_TICK = 0.001
"""Seconds: no logical time is between two milliseconds."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a schedule fires. Times are in seconds since the epoch; it has `crons`, `every`, or `moments`."""

    zone: ZoneInfo
    crons: tuple[Cron, ...] = ()
    every: float = 0.0
    """Seconds between two firings, counted from the epoch and `phase` seconds later."""
    phase: float = 0.0
    moments: tuple[float, ...] = ()
    """In order."""
    start: float = 0.0
    """No firing is before it, nor after `end`."""
    end: float = LATEST
    excepted_days: frozenset[date] = frozenset()
    """In the zone."""
    excepted_moments: frozenset[float] = frozenset()
    excepted_crons: tuple[Cron, ...] = ()
    """By the wall time of a firing."""

    def after(self, at: float) -> float | None:
        """The first logical time after `at`, which may be any time; None if there is none."""
        at = max(at, self.start - _TICK)
        for _ in range(MAX_EXCEPTED):
            found = self._candidate(at)
            if found is None or found > self.end or found >= LATEST:
                return None
            again = self._excepted_until(found)
            if again is None:
                return found
            at = again
        return None

    def upcoming(self, at: float) -> Iterator[float]:
        """The logical times after `at`, one after another."""
        found = self.after(at)
        while found is not None:
            yield found
            found = self.after(found)

    def _candidate(self, at: float) -> float | None:
        if self.crons:
            return min((t for cron in self.crons if (t := cron.after(at, self.zone)) is not None), default=None)
        if self.every:
            # In whole milliseconds: sums of floats would drift.
            every, phase = round(self.every * 1000), round(self.phase * 1000)
            return ((floor(at * 1000 + 1e-3) - phase) // every * every + every + phase) / 1000
        return next((t for t in self.moments if t > at), None)

    def _excepted_until(self, found: float) -> float | None:
        """If a time is left out, the last one that is left out with it for certain."""
        if found in self.excepted_moments:
            return found
        if not self.excepted_days and not self.excepted_crons:
            return None
        wall = local_time(found, self.zone)
        if wall.date() in self.excepted_days:
            midnight = start_of(datetime.combine(wall.date() + timedelta(days=1), time()), self.zone)
            return max(found, midnight - _TICK)
        ends = [end for cron in self.excepted_crons if (end := cron.excepted_until(found, self.zone)) is not None]
        return max(found, max(ends) - _TICK) if ends else None


def firing_id(schedule_id: str, at: float) -> str:
    """The request id of a firing: two owners, a replay and a backfill over the same time make one run."""
    return f"{schedule_id}@{utc_text(at)}"


def jitter_of(schedule_id: str, at: float, jitter: float) -> float:
    """Seconds by which a firing starts later than its logical time, from 0 to `jitter`: the same at each owner."""
    if jitter <= 0:
        return 0.0
    digest = sha256(firing_id(schedule_id, at).encode()).digest()
    return round(int.from_bytes(digest[:8], "big") / 2**64 * jitter, 3)
