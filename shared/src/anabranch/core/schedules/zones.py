"""Time zones of the pinned package `tzdata`, whatever the machine has installed. Pure.

Two owners of one schedule must compute the same times, so no zone is read from the operating system.
"""

from __future__ import annotations

import difflib
from datetime import datetime
from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

import tzdata

VERSION: str = tzdata.IANA_VERSION
"""The version of the time zone data, such as ``2026f``."""


@cache
def zone_names() -> frozenset[str]:
    """The IANA names of all zones."""
    return frozenset(resources.files(tzdata).joinpath("zones").read_text(encoding="utf-8").split())


@cache
def zone_of(name: str) -> ZoneInfo:
    """The zone of an IANA name.

    Raises:
        ValueError: there is none; the message names similar ones.
    """
    if name not in zone_names():
        near = difflib.get_close_matches(name, zone_names(), n=3, cutoff=0.7)
        same = [each for each in zone_names() if each.lower() == name.lower()]
        found = " or ".join(same or near)
        raise ValueError(f"{name[:100]!r} is no IANA time zone" + (f": did you mean {found}?" if found else ""))
    with resources.files(tzdata).joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def local_time(at: float, zone: ZoneInfo) -> datetime:
    """The wall time in a zone, without microseconds below the millisecond."""
    return datetime.fromtimestamp(at, zone)


def start_of(wall: datetime, zone: ZoneInfo) -> float:
    """Seconds since the epoch at which a wall time without a zone begins.

    A wall time that the clocks skip begins right after the gap; one that they show twice, the first time.
    """
    local = wall.replace(tzinfo=zone, fold=0)
    before = local.utcoffset()
    found = local.timestamp()
    real = datetime.fromtimestamp(found, zone)
    if real.replace(tzinfo=None) == wall.replace(fold=0):
        return found
    # In a gap: `found` has the offset from before the gap, so it is after the gap by as much as `wall` is in it.
    after = real.utcoffset()
    assert before is not None
    assert after is not None
    low, high = found - (after - before).total_seconds() - 1.0, found
    while high - low > 0.0005:
        middle = (low + high) / 2
        low, high = (low, middle) if datetime.fromtimestamp(middle, zone).utcoffset() == after else (middle, high)
    return float(round(high))
