"""Lanes: the queues of offers that workers read, one for each pool of workers and level of priority. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

Priority = Literal["low", "normal", "high", "urgent", "critical"]
"""Levels of priority, in ascending order."""

PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)
DEFAULT_PRIORITY: Final[Priority] = "normal"
DEFAULT_POOL: Final = "default"
POOL_PATTERN: Final = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"

HOUR, DAY = 3_600.0, 86_400.0
_NUMBERS: Final = {priority: number for number, priority in enumerate(PRIORITIES)}
_HIGHEST_RAISED: Final = _NUMBERS["urgent"]
_POOL = re.compile(POOL_PATTERN)


@dataclass(frozen=True, slots=True)
class Lane:
    """A queue of offers. Each lane has its own topic, see `Names.tasks`.

    `pool` names a group of workers and has no dot in it, so that the topic of a lane names only that lane.
    """

    pool: str = DEFAULT_POOL
    priority: Priority = DEFAULT_PRIORITY

    @property
    def suffix(self) -> str:
        """The end of the topic's name: empty for the default lane, else `.<pool>` or `.<pool>.<priority>`."""
        if self.priority != DEFAULT_PRIORITY:
            return f".{self.pool}.{self.priority}"
        return "" if self.pool == DEFAULT_POOL else f".{self.pool}"


DEFAULT_LANE: Final = Lane()
"""The lane of every offer that names no pool and no priority."""


def lanes_of(pool: str) -> Sequence[Lane]:
    """The lanes of a pool, the highest level first."""
    return [Lane(pool, priority) for priority in reversed(PRIORITIES)]


def number_of(priority: Priority) -> int:
    """The number by which levels are compared: 0 is the lowest."""
    return _NUMBERS[priority]


def raised(priority: Priority, seconds_left: float | None) -> Priority:
    """The level of work that is wanted in `seconds_left`: one level higher within a day, two within an hour, never
    above `urgent`; None: it has no deadline."""
    if seconds_left is None or seconds_left > DAY:
        return priority
    number = _NUMBERS[priority]
    by = 2 if seconds_left <= HOUR else 1
    return PRIORITIES[max(number, min(number + by, _HIGHEST_RAISED))]


def pool_problem(value: str) -> str | None:
    """Why `value` cannot name a pool; None if it can."""
    if _POOL.fullmatch(value):
        return None
    shown = repr(value if len(value) <= 60 else value[:57] + "...")
    return f"{shown} is no pool: 1 to 64 of the characters A-Z a-z 0-9 _ -, the first a letter or digit"
