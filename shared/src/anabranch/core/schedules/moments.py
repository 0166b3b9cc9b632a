"""Times and days as users write them in a schedule. Pure."""

from __future__ import annotations

import re
from datetime import date
from zoneinfo import ZoneInfo

from anabranch.core.schedules.zones import start_of
from anabranch.core.timestamps import parse_timestamp

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_EXAMPLE = "2030-01-31T08:00:00Z, 2030-01-31T08:00 in the schedule's time zone, or seconds since the epoch"


def parse_date(text: object) -> date | None:
    """A day such as `2030-12-24`; None for anything else."""
    if not isinstance(text, str) or not _DATE.fullmatch(text.strip()):
        return None
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        return None


def parse_moment(value: object, zone: ZoneInfo) -> float:
    """Seconds since the epoch of a timestamp. One without an offset is a wall time of the zone; a day is its
    midnight.

    Raises:
        ValueError: it is none, or not between 1970 and 9990.
    """
    return parse_timestamp(value, lambda wall: start_of(wall, zone), _EXAMPLE)
