"""Appends snapshots of open runs to an owner's partitions: a takeover then need not read all of their records.

Whether a run gets a snapshot is no decision of its fold: a snapshot changes nothing but the offset from which the
run is restored. So this loop looks at the state from outside, by the log's time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from anabranch.core.errors import AnabranchError, RecordTooLarge
from anabranch.core.snapshots import SnapshotPolicy, most_behind
from anabranch.ports import Outgoing
from anabranch.runtime.ownership.owned_partition import OwnedPartition
from anabranch.runtime.ownership.owner_context import OwnerContext
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.topics import retention_of

log = logging.getLogger(__name__)

S = TypeVar("S")

TICK_SECONDS = 1.0
CHECKED = 500
"""Runs of a partition that one tick looks at: a tick takes less than a millisecond, unless snapshots are due."""
BATCH, BATCH_BYTES = 20, 500_000
"""Snapshots, and their bytes, that are encoded before the event loop gets its turn and they are published."""
AGAIN_SECONDS = 60.0
"""A snapshot that was published is not published again for so long, although it was not read yet."""
RETENTION_EVERY = 3_600.0
"""Seconds between two looks at the retention of the topic."""


def policy_of(settings: Settings) -> SnapshotPolicy | None:
    """When runs get snapshots; None if they get none."""
    if settings.snapshot_idle == 0:
        return None
    return SnapshotPolicy(settings.snapshot_idle, settings.snapshot_interval, settings.snapshot_bytes)


@dataclass(slots=True)
class _Round(Generic[S]):
    """A walk over the runs of a partition, some of them in each tick."""

    owned: OwnedPartition[S]
    run_ids: deque[str] = field(default_factory=deque)
    """The runs that were not looked at yet."""
    snapshot_bytes: int = 0
    """Bytes of the snapshots of those that were."""
    most_behind: int = most_behind(0)
    published: dict[str, float] = field(default_factory=dict)
    """By run: the log's time at which a snapshot was published."""

    def begin_again(self, run_ids: Iterable[str], now: float) -> None:
        self.run_ids.extend(run_ids)
        self.most_behind, self.snapshot_bytes = most_behind(self.snapshot_bytes), 0
        self.published = {run_id: at for run_id, at in self.published.items() if now - at < AGAIN_SECONDS}


class SnapshotWriter(Generic[S]):
    """Writes the snapshots of one owner."""

    def __init__(self, context: OwnerContext[S], policy: SnapshotPolicy) -> None:
        self._context = context
        self._topic = context.handler.topic
        self._log = context.resources.log
        self._policy = policy
        self._again = min(AGAIN_SECONDS, policy.idle)
        self._rounds: dict[int, _Round[S]] = {}
        self._read_retention_at = 0.0

    async def run(self) -> None:
        """Look for runs that need a snapshot every second, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self._read_retention()
                for owned in list(self._context.owned.values()):
                    if owned.is_caught_up and not owned.queue.is_long:
                        await self._advance(owned)
            except AnabranchError as error:
                log.warning("cannot write snapshots to %s, retrying later: %s", self._topic, error)

    async def _read_retention(self) -> None:
        now = self._context.clock.monotonic()
        if now >= self._read_retention_at:
            self._policy = replace(self._policy, retention=await retention_of(self._log, self._topic))
            self._read_retention_at = now + RETENTION_EVERY

    async def _advance(self, owned: OwnedPartition[S]) -> None:
        """Look at the next runs of a partition, and publish the snapshots that are due."""
        self._rounds = {
            number: each for number, each in self._rounds.items() if self._context.is_current(each.owned)
        }
        batch: list[Outgoing] = []
        size = 0
        for run_id in self._due(owned, self._rounds.setdefault(owned.number, _Round(owned))):
            batch.append(self._context.handler.snapshots.record_of(owned.state, owned.number, run_id))
            size += len(batch[-1].value)
            if len(batch) == BATCH or size >= BATCH_BYTES:
                await self._publish(batch)
                batch, size = [], 0
                if not self._context.is_current(owned):
                    return
        await self._publish(batch)

    async def _publish(self, batch: Sequence[Outgoing]) -> None:
        try:
            await self._log.publish(batch)
        except RecordTooLarge as error:
            if len(batch) > 1:
                for each in batch:
                    await self._publish([each])
                return
            key = batch[0].key
            log.warning(
                "a run of %s (%s) has too much state for a snapshot, a takeover reads all of its records: %s",
                self._topic,
                key,
                error,
            )

    def _due(self, owned: OwnedPartition[S], walk: _Round[S]) -> Iterator[str]:
        """The runs that are due, of the next ones in the partition's round."""
        state: Any = owned.state
        now = self._context.clock.now()
        if not walk.run_ids:
            walk.begin_again(state.opened, now)
        for _ in range(min(CHECKED, len(walk.run_ids))):
            run_id = walk.run_ids.popleft()
            run = state.opened.get(run_id)
            if run is None:
                continue
            trail = run.trail
            walk.snapshot_bytes += trail.size
            behind = state.trail.bytes - trail.mark
            was_read = trail.cut is None
            is_waiting = not was_read and now - walk.published.get(run_id, -AGAIN_SECONDS) < self._again
            if not is_waiting and self._policy.is_due(trail, now, behind, walk.most_behind):
                walk.published[run_id] = now
                yield run_id
