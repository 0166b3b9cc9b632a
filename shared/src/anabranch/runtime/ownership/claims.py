"""Claims partitions, and finds out from where each is replayed.

An owner appends a claim to a partition that it gets. The claim's offset is the owner's **epoch**. Each write to
the store is fenced by it: the store refuses writes of a lower epoch than the last one that it saw. Offsets only
grow, so a later owner has a higher epoch, without a counter that a store could lose.

The offsets of a topic that was deleted and created again begin at 0. The fence therefore has the log's
**generation** above the epoch; see `log_generation`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import Generic, TypeVar

from anabranch.core.admissions import offset_of
from anabranch.core.errors import Fenced, ServerUnavailable
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import ClaimPartition
from anabranch.ports import Committed, Outgoing
from anabranch.runtime.ownership.log_generation import generation_of, is_of_later_generation, renumber_above
from anabranch.runtime.ownership.orphans import Orphans
from anabranch.runtime.ownership.owned_partition import OwnedPartition
from anabranch.runtime.ownership.owner_context import OwnerContext
from anabranch.runtime.ownership.poison_records import PoisonRecordGuard
from anabranch.runtime.ownership.replay import (
    committed_generation,
    discard_stale_commit,
    replay_of,
    rewind_to_mark,
)
from anabranch.runtime.until_available import UNAVAILABLE

log = logging.getLogger(__name__)

S = TypeVar("S")

REBUILT_WINDOWS = 2
"""Ended runs are rebuilt for this many loss windows: longer than another owner may repeat messages about them."""
FENCED_PAUSE_SECONDS = 1.0


class PartitionClaims(Generic[S]):
    """Claims the partitions of one owner.

    Args:
        name: the owner's name in claims, one for each incarnation of a process.
    """

    def __init__(self, context: OwnerContext[S], name: str) -> None:
        self._context = context
        self._handler = context.handler
        self._log = context.resources.log
        self._store = context.resources.store
        self._names = context.resources.names
        self._name = name
        self._generation = 0
        """The latest generation of the log that this process has seen: the store may forget it."""
        self._orphans = Orphans(self._log)

    async def take_over(self, partition: int, committed: Committed | None) -> OwnedPartition[S]:
        """Claim a partition, and choose where its replay starts.

        The order matters. The topic's beginning is read before anything else is asked about the topic, so that a
        recreation during the takeover is noticed. The store's identity and marks are read before the claim: what
        is lost afterwards is found by the next check.

        Raises:
            ServerUnavailable, StoreRefused: a server is unavailable; the log assigns the partition again.
        """
        topic, detector = self._handler.topic, self._context.loss_detector
        await self._context.recreation.assigned(partition)
        store = await self._store.identity()
        is_intact = not await detector.lost_partitions([partition])
        if not is_intact:
            await detector.begin_restoring([partition])
        # Two sources of the generation besides the store: the store may have lost its list of generations.
        noted = max(committed_generation(committed), self._generation)
        generation = await generation_of(self._log, self._store, self._names, topic, noted)
        self._generation = max(self._generation, generation)
        await self._orphans.publish_kept(partition, generation)
        guard = PoisonRecordGuard(self._store, self._names.deciding(topic, partition, generation))
        await guard.load()
        epoch, claimed = await self._claim(partition)
        # Between the two reads the topic may have been created again. Commits of this owner would then have the
        # generation before, the next owner would discard them, and runs that are long over would run again.
        if await generation_of(self._log, self._store, self._names, topic, noted) != generation:
            raise ServerUnavailable(
                "Kafka", f"{topic}/{partition}", "the topic was created again during a takeover"
            )
        found, committed = committed, discard_stale_commit(committed, generation, epoch)
        replay = replay_of(committed, store, is_intact=is_intact, generation=generation)
        if committed is not found:
            replay = replace(replay, start=0)  # else the client begins at the commit that does not count
        # A restored backup may be older than the commit. Its mark has the position that the backup corresponds to.
        if replay.restores:
            begin = await detector.saved_position(partition)
            replay = rewind_to_mark(replay, None if begin is None else offset_of(begin, generation))
        # The end of this takeover, and other owners, overwrite the position in the mark, so it has to be saved
        # again even if it has not changed.
        detector.forget_saved(partition)
        loss_window = self._context.resources.settings.loss_window
        owned = OwnedPartition.claimed_now(
            partition,
            self._handler.new_state(partition, generation),
            replay,
            epoch,
            generation,
            store,
            guard,
            committed,
            is_marked=is_intact,
            loss_window=loss_window,
            rebuild_window=REBUILT_WINDOWS * loss_window,
            now=self._context.clock.monotonic(),
        )
        owned.claimed = claimed
        log.info("claimed %s/%d at epoch %d: %s", topic, partition, epoch, replay)
        return owned

    def release(self, owned: OwnedPartition[S]) -> None:
        """Remember the open runs of a partition that another owner may get, in case its topic is recreated."""
        self._orphans.keep(owned.number, owned.generation, self._handler.orphans(owned.state))

    async def _claim(self, partition: int) -> tuple[int, tuple[float, float]]:
        """Append a claim. Returns its offset, and when it was published and acknowledged by this machine's
        clock."""
        clock = self._context.clock
        claim, began = encode(ClaimPartition(owner=self._name)), clock.machine_now()
        [epoch] = await self._log.publish([Outgoing(self._handler.topic, None, claim, partition=partition)])
        self._context.metrics.count_claim()
        self._context.recreation.claimed(partition, epoch)
        return epoch, (began, clock.machine_now())

    async def claim_again(self, owned: OwnedPartition[S], error: Fenced) -> None:
        """React to a refused write: another owner claimed the partition after this one.

        If the group confirms this process as the owner, the other one is a zombie that claimed late: claim again,
        which gives a higher epoch. If the fence is of a later generation of the log, take every partition over
        again. If the group does not confirm, this process is the zombie: the next attempt is refused again, until
        the group revokes the partition.

        Raises:
            CancelledError: the partition is not this owner's any more.
        """
        topic = self._handler.topic
        log.warning("a write of %s/%d was refused, claiming the partition again: %s", topic, owned.number, error)
        # Two owners that both claim again would raise each other's epochs without a pause, and the group needs
        # time to revoke the partition of one.
        await asyncio.sleep(FENCED_PAUSE_SECONDS)
        if owned.closing or not self._context.is_current(owned):
            raise asyncio.CancelledError
        if not await self._context.membership.confirm(owned.number, owned.confirmed):
            return
        with contextlib.suppress(*UNAVAILABLE):  # the next attempt is refused too, and comes here again
            end = (await self._log.group_standing(self._handler.group, topic))[owned.number].end
            if is_of_later_generation(error.current, owned.generation, end):
                await renumber_above(error.current, end, self._log, self._store, self._names, topic)
                self._context.membership.rejoin()
            else:
                owned.epoch, owned.claimed = await self._claim(owned.number)
