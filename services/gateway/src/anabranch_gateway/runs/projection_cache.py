"""LRU cache of the member projections of runs, brought up to date on each read."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from anabranch.core.bounded import BoundedDict
from anabranch_gateway.events.broadcaster import EventBroadcaster
from anabranch_gateway.runs.member_projection import RunMembers

MAX_RUNS = 200
MAX_MEMBERS = 4_000_000
"""Maximum members of all cached runs, at about 20 bytes each. The run read last stays cached in any case."""
MEMBERS_OF_A_RUN = MAX_MEMBERS // MAX_RUNS
"""Minimum weight of a run, so that the cache holds at most `MAX_RUNS` runs however few members they have."""
YIELD_RECORDS = 200
"""Records applied before yielding to the event loop, so that a long replay does not delay other requests."""


class ProjectionCache:
    """Member projections by run id. A read replays only the events since the last read of the same run."""

    def __init__(self, broadcaster: EventBroadcaster) -> None:
        self._broadcaster = broadcaster
        self._projections: BoundedDict[str, RunMembers] = BoundedDict(MAX_MEMBERS, weight=_weight)
        self._locks: dict[str, asyncio.Lock] = {}

    async def read(self, run_id: str, first: int) -> RunMembers:
        """The members of a run as of now.

        Args:
            first: offset of the run's first record in its partition, or any offset before it.

        Raises:
            ServerUnavailable: the log cannot be read.
        """
        # One lock for each run: two concurrent reads would apply the same records twice to one projection.
        lock = self._locks.setdefault(run_id, asyncio.Lock())
        try:
            async with lock:
                return await self._update(run_id, first)
        finally:
            if not lock.locked():
                self._locks.pop(run_id, None)

    async def _update(self, run_id: str, first: int) -> RunMembers:
        projection = self._projections.get(run_id) or RunMembers(first)
        partition = await self._broadcaster.partition_of(run_id)
        until = self._broadcaster.position(partition)
        count = 0
        async with aclosing(self._broadcaster.history(run_id, partition, projection.position, until)) as records:
            async for record in records:
                if record.batch is not None:
                    projection.apply(record.batch)
                projection.position = record.offset + 1
                count += 1
                if count % YIELD_RECORDS == 0:
                    await asyncio.sleep(0)
        # Records of other runs may follow the run's last one: the next read need not read them again.
        projection.position = max(projection.position, until)
        self._projections[run_id] = projection  # stored again, because its weight may have grown
        return projection


def _weight(projection: RunMembers) -> int:
    return max(projection.members, MEMBERS_OF_A_RUN)
