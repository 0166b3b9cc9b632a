"""Finds pools without workers: their tasks wait, and their runs have to say so."""

from __future__ import annotations

from collections.abc import Collection

from anabranch.core.errors import Misconfigured
from anabranch.core.lanes import Lane
from anabranch.core.names import Names
from anabranch.core.waiting import NOTICE_SECONDS
from anabranch.ports import Clock, EventLog


class PoolWatch:
    """Asks the log for the members of the consumer groups of pools, each at most once in `NOTICE_SECONDS`."""

    def __init__(self, eventlog: EventLog, names: Names, clock: Clock) -> None:
        self._log = eventlog
        self._names = names
        self._clock = clock
        self._asked: dict[str, float] = {}

    async def without_workers(self, pools: Collection[str]) -> set[str]:
        """The pools that have no worker, of those that may be asked about now.

        Raises:
            ServerUnavailable: the log does not answer.
        """
        now = self._clock.monotonic()
        self._asked = {pool: at for pool, at in self._asked.items() if now - at < NOTICE_SECONDS}
        found = set()
        for pool in sorted(set(pools) - self._asked.keys()):
            self._asked[pool] = now
            if not await self._has_workers(pool):
                found.add(pool)
        return found

    async def _has_workers(self, pool: str) -> bool:
        topic = self._names.tasks(Lane(pool))
        try:
            standings = await self._log.group_standing(self._names.tasks_group(Lane(pool)), topic, members=True)
        except Misconfigured:  # no worker of the pool was ever there: the topic does not exist
            return False
        return any(standing.member is not None for standing in standings.values())
