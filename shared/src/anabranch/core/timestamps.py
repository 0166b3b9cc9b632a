"""Timestamps as users write them, and as the contract does: RFC 3339, in UTC. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

LATEST = datetime(9990, 1, 1, tzinfo=UTC).timestamp()
"""No time is from here on: its local time could be after the year 9999."""
EXAMPLE = "2030-01-31T08:00:00Z, or seconds since the epoch"


def utc_text(at: float) -> str:
    """A time such as `2030-01-31T08:00:00Z`, with milliseconds only where it has some."""
    found = datetime.fromtimestamp(round(at, 3), UTC)
    timespec = "milliseconds" if found.microsecond else "seconds"
    return found.isoformat(timespec=timespec).replace("+00:00", "Z")


def in_utc(wall: datetime) -> float:
    """Seconds since the epoch of a time without an offset, which is read as UTC."""
    return wall.replace(tzinfo=UTC).timestamp()


def parse_timestamp(value: object, local: Callable[[datetime], float] = in_utc, example: str = EXAMPLE) -> float:
    """Seconds since the epoch of a timestamp or a number.

    Args:
        local: what the seconds of a time without an offset are.

    Raises:
        ValueError: it is no time, or not between 1970 and 9990. The message says so with `example`.
    """
    found = _seconds(value, local)
    if found is None:
        raise ValueError(f"{repr(value)[:100]} is no time: write {example}")
    if not math.isfinite(found) or not 0 <= found < LATEST:
        raise ValueError(f"{repr(value)[:100]} is not between the years 1970 and 9990")
    return round(found, 3)


def _seconds(value: object, local: Callable[[datetime], float]) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    try:
        return local(found) if found.tzinfo is None else found.timestamp()
    except (OverflowError, ValueError):  # the years 1 and 9999, whose UTC time may be in another
        return math.inf
