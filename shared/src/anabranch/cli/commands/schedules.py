"""`schedules next`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from anabranch.cli import request_files
from anabranch.cli.exits import COMPLETED
from anabranch.cli.render.output import print_json, print_text, say
from anabranch.core.errors import Misconfigured
from anabranch.core.schedules.moments import parse_moment
from anabranch.core.schedules.reading import read_timing
from anabranch.core.schedules.zones import local_time, zone_of
from anabranch.core.timestamps import utc_text
from anabranch.runtime.process.clock import SystemClock


def print_next(count: int, file: str, from_: str | None, *, json: bool) -> int:
    """Print the next times of the schedule in a file.

    Raises:
        RequestRefused: the file has no schedule.
        Misconfigured: `from_` is no time.
    """
    document = request_files.load(file)
    # Only the times count here: a file without an id, or with no request yet, has them too.
    if isinstance(document, Mapping):
        document = {"id": "schedule", **document}
    schedule, rule = read_timing(document)
    try:
        start = SystemClock().now() if from_ is None else parse_moment(from_, rule.zone)
    except ValueError as error:
        raise Misconfigured("--from", str(error), "such as --from 2030-01-31T08:00:00Z") from error
    found = list(islice(rule.upcoming(start), min(count, schedule.limit or count)))
    if json:
        print_json({"times": [utc_text(at) for at in found]})
        return COMPLETED
    for line in _lines(found, schedule.timezone):
        print_text(line)
    if len(found) < count:
        say(f"The schedule has no time after {'these' if found else utc_text(start)}.")
    if schedule.jitter and found:
        say(f"Each starts up to {schedule.jitter:g} s later, because of its jitter.")
    return COMPLETED


def _lines(times: list[float], timezone: str) -> Iterator[str]:
    """Each time in UTC, and in the zone of the schedule if that is another."""
    zone = zone_of(timezone)
    for at in times:
        wall = local_time(at, zone)
        local = "" if timezone == "UTC" else f"  {wall:%a %Y-%m-%d %H:%M:%S} {wall.tzname()} {timezone}"
        yield utc_text(at) + local
