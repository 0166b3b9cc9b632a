"""Times of cron expressions, through changes of the clocks as Debian's cron has them. Pure.

An expression with fixed minutes and hours is one of wall times. One that the clocks skip runs right after the
gap, and one that they show twice runs the first time. In an expression whose minute or hour begins with `*`, time
elapses: every real minute with a matching wall time counts, so none in a gap, and both of those that come twice.

`cronsim` reads the expressions and walks through wall times. The minutes that elapse are walked through here,
because cronsim jumps by whole hours, also over a change by half an hour, and takes the midnight that a zone skips
for a real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from math import floor
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from anabranch.core.schedules.zones import local_time, start_of
from anabranch.core.timestamps import LATEST

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
YEARS = 50
"""How far an expression is followed that matches no day: it then has no further time."""
MAX_LENGTH = 200
_FIELDS = "minute hour day-of-month month day-of-week"
_EPOCH = datetime(2000, 1, 1)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of five fields, or a macro such as ``@daily``.

    Raises:
        ValueError: the text is none; the message says what is wrong.
    """

    text: str
    _fields: CronSim = field(init=False, repr=False, compare=False)
    _elapses: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parsed = _parsed(self.text)
        object.__setattr__(self, "_fields", parsed)
        minute, hour = parsed.parts[-5:-3]  # cronsim adds a field of seconds in front
        object.__setattr__(self, "_elapses", minute.startswith("*") or hour.startswith("*"))

    def after(self, at: float, zone: ZoneInfo) -> float | None:
        """The first time after `at` (both in seconds since the epoch); None if there is none within 50 years."""
        found = self._elapsed(at, zone) if self._elapses else self._fixed(at, zone)
        return found if found is not None and found < LATEST else None

    def matches(self, wall: datetime) -> bool:
        """True if a wall time matches each field. Seconds do not count."""
        fields = self._fields
        return wall.minute in fields.minutes and wall.hour in fields.hours and self._has_day(wall.date())

    def excepted_until(self, at: float, zone: ZoneInfo) -> float | None:
        """If the expression matches the wall time of `at`: a time until which it matches each minute."""
        fields, wall = self._fields, local_time(at, zone)
        if not self.matches(wall):
            return None
        if len(fields.minutes) < 60:
            return floor(at / 60) * 60.0 + 60.0
        if len(fields.hours) == 24:
            return float(max(at, _midnight(wall.date() + timedelta(days=1), zone)))
        return float(_next_hour(floor(at / 60) * 60, wall, zone))

    def _has_day(self, day: date) -> bool:
        return day.month in self._fields.months and bool(self._fields.match_day(day))

    # --- wall times ----------------------------------------------------------------------------------

    def _fixed(self, at: float, zone: ZoneInfo) -> float | None:
        wall = local_time(at, zone).replace(tzinfo=None)
        # In an hour that comes twice, wall times after this one have been before, so they are left out below.
        for found in self._walls(wall.replace(fold=0)):
            moment = start_of(found, zone)
            if moment > at:
                return moment
        return None

    def _walls(self, wall: datetime) -> Iterator[datetime]:
        return iter(CronSim(" ".join(self._fields.parts[-5:]), wall))

    # --- elapsed minutes -----------------------------------------------------------------------------

    def _elapsed(self, at: float, zone: ZoneInfo) -> float | None:
        fields = self._fields
        moment = floor(at / 60) * 60 + 60
        local = local_time(moment, zone)
        last = local.year + YEARS
        while local.year <= last and moment < LATEST:
            if local.month not in fields.months:
                first = (local.replace(tzinfo=None, day=1) + timedelta(days=32)).date().replace(day=1)
                moment = max(moment + 60, _midnight(first, zone))
            elif not fields.match_day(local.date()):
                moment = max(moment + 60, _midnight(local.date() + timedelta(days=1), zone))
            elif local.hour not in fields.hours:
                moment = _next_hour(moment, local, zone)
            elif local.minute not in fields.minutes:
                moment += 60
            else:
                return float(moment)
            local = local_time(moment, zone)
        return None


def is_cron(value: object) -> bool:
    """True if a text can only be meant as a cron expression, and not as a time."""
    return isinstance(value, str) and (value.lstrip().startswith("@") or len(value.split()) > 2)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return floor(start_of(datetime.combine(day, time()), zone))


def _next_hour(moment: int, local: datetime, zone: ZoneInfo) -> int:
    """The start of the next hour, or the next minute if the clocks change in between."""
    ahead = moment + 60 * (60 - local.minute)
    return ahead if local_time(ahead, zone).utcoffset() == local.utcoffset() else moment + 60


def _parsed(text: str) -> CronSim:
    stripped = text.strip()
    shown = repr(stripped[:MAX_LENGTH])
    if len(stripped) > MAX_LENGTH:
        raise ValueError(f"the expression has {len(stripped)} characters, the maximum is {MAX_LENGTH}")
    if stripped.startswith("@"):
        if stripped.lower() not in MACROS:
            raise ValueError(f"{shown} is none of {', '.join(MACROS)}")
        stripped = MACROS[stripped.lower()]
    count = len(stripped.split())
    if count != 5:
        extra = "; there is no field of seconds" if count == 6 else ""
        raise ValueError(f"{shown} has {count} fields, and a cron expression has five: {_FIELDS}{extra}")
    try:
        return CronSim(stripped, _EPOCH)
    except (CronSimError, ValueError, AssertionError) as error:
        wrong = str(error).removeprefix("Bad ")
        what = f"its {wrong} is wrong" if wrong in _FIELDS.split() else f"it cannot be read: {error}"
        raise ValueError(f"{shown}: {what}; the fields are {_FIELDS}") from error
