"""Lanes: the queues of offers that workers read, one for each pool of workers and level of priority. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Priority = Literal["low", "normal", "high", "urgent", "critical"]
"""Levels of priority, in ascending order."""

DEFAULT_POOL: Final = "default"


@dataclass(frozen=True, slots=True)
class Lane:
    """A queue of offers. Each lane has its own topic, see `Names.tasks`.

    `pool` names a group of workers and has no dot in it, so that the topic of a lane names only that lane.
    """

    pool: str = DEFAULT_POOL
    priority: Priority = "normal"

    @property
    def suffix(self) -> str:
        """The end of the topic's name: empty for the default lane, else `.<pool>` or `.<pool>.<priority>`."""
        if self.priority != "normal":
            return f".{self.pool}.{self.priority}"
        return "" if self.pool == DEFAULT_POOL else f".{self.pool}"


DEFAULT_LANE: Final = Lane()
"""The lane of every offer that names no pool and no priority."""
