"""`schedules next | put | list | show | pause | resume | trigger | backfill | delete`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from anabranch.cli import request_files
from anabranch.cli.backends.selection import open_installation
from anabranch.cli.exits import COMPLETED
from anabranch.cli.render.output import print_json, print_text, say
from anabranch.cli.said import said_by
from anabranch.core.errors import Misconfigured
from anabranch.core.schedules.moments import parse_moment
from anabranch.core.schedules.reading import read_timing
from anabranch.core.schedules.zones import local_time, zone_of
from anabranch.core.timestamps import utc_text
from anabranch.runtime.process.clock import SystemClock

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings

SHOWN_PAST = 20


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


async def put(settings: Settings, file: str, by: str | None, *, json: bool) -> int:
    """Store the schedule in a file.

    Raises:
        RequestRefused: it is invalid.
    """
    document = request_files.load(file)
    async with open_installation(settings) as system:
        view = await system.put_schedule(document, said_by(by, None))
    if json:
        print_json(dict(view))
    else:
        say(f"Schedule {view['id']}. Next: {_next(view)}.")
    return COMPLETED


async def list_schedules(settings: Settings, *, json: bool) -> int:
    """Print all schedules."""
    async with open_installation(settings) as system:
        found = await system.schedules()
    if json:
        print_json({"schedules": [dict(each) for each in found]})
    for each in () if json else found:
        state = "paused" if each["paused"] else f"next {_next(each)}"
        print_text(f"{each['id']}  {state}  {_last(each)}".rstrip())
    if not found and not json:
        say("No schedules. Put one with: anabranch schedules put FILE")
    return COMPLETED


async def show(settings: Settings, schedule_id: str, *, json: bool) -> int:
    """Print a schedule.

    Raises:
        RequestRefused: there is none.
    """
    async with open_installation(settings) as system:
        view = await system.schedule(schedule_id)
    if json:
        print_json(dict(view))
    else:
        for line in _description(view):
            print_text(line)
    return COMPLETED


async def act(
    settings: Settings,
    action: str,
    schedule_id: str,
    by: str | None,
    reason: str | None,
    *,
    json: bool,
    **fields: Any,
) -> int:
    """Pause, resume, trigger, backfill or delete a schedule.

    Raises:
        RequestRefused: there is none, or a time is wrong.
    """
    async with open_installation(settings) as system:
        view = await system.act_on_schedule(action, schedule_id, said_by(by, reason), fields)
    if json:
        print_json({"id": schedule_id, "action": action} if view is None else dict(view))
    elif view is None:
        say(f"Schedule {schedule_id} is deleted.")
    else:
        say(f"Schedule {schedule_id}: {action}. Next: {'paused' if view['paused'] else _next(view)}.")
    return COMPLETED


def _next(view: Mapping[str, Any]) -> str:
    return str(view["next"][0]) if view["next"] else "never"


def _last(view: Mapping[str, Any]) -> str:
    past = next(iter(view["history"]), None)
    return "" if past is None else f"last {past['at']} {past['status']}"


def _description(view: Mapping[str, Any]) -> Iterator[str]:
    paused = view["paused_by"] or {}
    said = "".join(f", {name} {paused[name]}" for name in ("by", "reason") if paused.get(name))
    yield f"{view['id']}: {'paused' + said if view['paused'] else 'active'}, fired {view['fired']} times"
    if view["missed"]:
        yield "missed: " + ", ".join(f"{count} by {reason}" for reason, count in view["missed"].items())
    yield from (f"next     {at}" for at in view["next"])
    for kind in ("running", "waiting"):
        yield from (f"{kind}  {each['at']}  {each['source']}" for each in view[kind])
    for each in view["history"][:SHOWN_PAST]:
        why = f": {each['reason']}" if each.get("reason") else ""
        yield f"past     {each['at']}  {each['source']}  {each['status']}{why}"
