"""The folds of runs that somebody looks at: brought up to date at each look, kept while there is room."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import aclosing

from anabranch_gateway.events.broadcaster import EventBroadcaster
from anabranch_gateway.runs.member_projection import RunMembers

MAX_RUNS = 200
MAX_MEMBERS = 4_000_000
"""Of all runs that are kept, at about 20 bytes each; the run looked at last stays in any case."""
YIELD_RECORDS = 200
"""Records folded without a break: others are to be served too."""


class ProjectionCache:
    """See the module."""

    def __init__(self, live: EventBroadcaster) -> None:
        self._live = live
        self._kept: OrderedDict[str, RunMembers] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    async def of(self, run_id: str, first: int) -> RunMembers:
        """How the members of a run stand by now; `first` is the offset of the run's first record, or before it.

        Raises:
            ServerUnavailable: the log cannot be read.
        """
        lock = self._locks.setdefault(run_id, asyncio.Lock())
        try:
            async with lock:
                return await self._brought_up(run_id, first)
        finally:
            if not lock.locked():
                self._locks.pop(run_id, None)

    async def _brought_up(self, run_id: str, first: int) -> RunMembers:
        fold = self._kept.get(run_id) or RunMembers(first)
        partition = await self._live.partition_of(run_id)
        until = self._live.position(partition)
        count = 0
        async with aclosing(self._live.history(run_id, partition, fold.position, until)) as records:
            async for record in records:
                if record.batch is not None:
                    fold.apply(record.batch)
                fold.position = record.offset + 1
                count += 1
                if count % YIELD_RECORDS == 0:
                    await asyncio.sleep(0)
        fold.position = max(fold.position, until)
        self._keep(run_id, fold)
        return fold

    def _keep(self, run_id: str, fold: RunMembers) -> None:
        self._kept[run_id] = fold
        self._kept.move_to_end(run_id)
        members = sum(each.members for each in self._kept.values())
        while len(self._kept) > 1 and (len(self._kept) > MAX_RUNS or members > MAX_MEMBERS):
            _, dropped = self._kept.popitem(last=False)
            members -= dropped.members
