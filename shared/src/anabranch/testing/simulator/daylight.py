"""Puts changes of the clocks into simulations, and computes the times of cron expressions naively.

In these seeds virtual time begins shortly before a zone changes its clocks. In some, all wall clocks jump over the
change by an hour or more, as those of virtual machines that were suspended, and owners are killed right after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from zoneinfo import ZoneInfo

from anabranch.core.schedules.zones import zone_of
from anabranch.testing.loop import EPOCH

CHANGES = (
    ("Europe/Berlin", "2026-03-29T01:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
)
"""Zones, and when their clocks change: by an hour, or by half an hour on Lord Howe Island."""
MINUTE, DAY = 60.0, 86_400.0
EACH_MINUTE, EACH_TWENTY = "* * * * *", "*/20 * * * *"
JUMPS = (3_600.0, 5_400.0, 7_200.0)
JUMP_SHARE = 0.3
MOST_SKEW = 7_200.0


@dataclass(frozen=True, slots=True)
class ClockPlan:
    """The clocks of a seed.

    Attributes:
        epoch: when virtual time begins, in seconds since the epoch.
        change: when the clocks of `zone` change.
        jump: seconds by which all wall clocks jump; 0 if they do not.
        jump_at: when they do, in seconds of virtual time.
        most_skew: seconds by which the clock of one process may jump, forward or back.
    """

    epoch: float = EPOCH
    zone: str = "UTC"
    change: float = EPOCH
    jump: float = 0.0
    jump_at: float = 0.0
    most_skew: float = 30.0


def draw_clocks(seed: str, first: float) -> ClockPlan:
    """Draw the clocks of a seed whose schedules fire from `first` on, in seconds of virtual time."""
    random = Random(f"clocks {seed}")
    zone, text = random.choice(CHANGES)
    change = datetime.fromisoformat(text).timestamp()
    jump = random.choice(JUMPS) if random.random() < JUMP_SHARE else 0.0
    jump_at = first + random.uniform(1.0, 8.0)
    # By a whole second, so that times are short.
    before = float(round(random.uniform(1.0, 15.0) + random.choice((0.0, MINUTE)) + jump * random.random()))
    epoch = change - first - before
    return ClockPlan(epoch, zone, change, jump, jump_at if jump else 0.0, most_skew=MOST_SKEW)


def expressions(random: Random, clocks: ClockPlan) -> list[str]:
    """Cron expressions that fire at the change of the clocks, that do not, and whose time elapses."""
    zone = zone_of(clocks.zone)
    before, after = (datetime.fromtimestamp(clocks.change + each, zone) for each in (-1.0, 1.0))
    shift = (after.utcoffset() or timedelta()) - (before.utcoffset() or timedelta())
    wall = after.replace(tzinfo=None, second=0)
    # A minute before; in the gap, or of the time that comes twice; right after the gap; and a minute later.
    last = before.replace(tzinfo=None, second=0)
    walls = [last, wall - abs(shift) / 2, wall, wall + timedelta(minutes=1)]
    found = [f"{each.minute} {each.hour} * * *" for each in walls]
    found.append(EACH_TWENTY if clocks.jump else EACH_MINUTE)
    return random.sample(found, random.randint(1, 3))


def naive_times(lines: Sequence[str], zone: ZoneInfo, start: float, end: float) -> list[float]:
    """The times of cron expressions from `start` to `end`: of `* * * * *`, of `*/N * * * *`, and of one time a
    day. The last runs in the first minute in which the clocks of its day show it, or a later time."""
    minute = -(-start // MINUTE) * MINUTE
    elapsing = [1 if line == EACH_MINUTE else int(line.partition(" ")[0][2:]) for line in lines if line[0] == "*"]
    daily = [tuple(map(int, line.split()[:2])) for line in lines if line[0] != "*"]
    found = {at for each in daily for at in _daily(each[1] * 60 + each[0], zone, start, end)}
    while minute <= end:
        if any(datetime.fromtimestamp(minute, zone).minute % each == 0 for each in elapsing):
            found.add(minute)
        minute += MINUTE
    return sorted(found)


def _daily(wall: int, zone: ZoneInfo, start: float, end: float) -> Iterator[float]:
    """The times at which the clocks first show `wall`, minutes of the day, or more, on each day."""
    seen: set[date] = set()
    at = (start - DAY) // MINUTE * MINUTE
    day_of_start = datetime.fromtimestamp(at, zone).date()
    while at <= end:
        local = datetime.fromtimestamp(at, zone)
        if local.hour * 60 + local.minute >= wall and local.date() not in seen:
            seen.add(local.date())
            # The first day is cut, so its first minute may be later than the first that shows the time.
            if at >= start and local.date() != day_of_start:
                yield at
        at += MINUTE
