"""Applies records to owned partitions: decides, performs the effects, notes the position to commit.

A partition is read from its replay position. Its records fall into three parts:

- below the committed offset: they only rebuild the state; their effects were performed. If the store lost data,
  the effects that write to the store are performed again.
- from the committed offset to the owner's claim: the last owner may have died before it performed their effects.
  They are performed again, with the same outcome. Effects that start work (offers, watches) are left out: the
  handler derives them from the state once the claim is reached. Snapshots restore runs here only if no position
  was committed and the log has lost its first records.
- after the claim: everything is performed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from anabranch.core.errors import AnabranchError, Fenced, ValueGone
from anabranch.core.snapshots import Gap
from anabranch.ports import Incoming
from anabranch.runtime.ownership.claims import PartitionClaims
from anabranch.runtime.ownership.dead_letter import dead_letter
from anabranch.runtime.ownership.due_timers import DueTimers
from anabranch.runtime.ownership.effect_writer import EffectWriter
from anabranch.runtime.ownership.effects import AppendHistory, Effect, Expire, StorePut, by_performer
from anabranch.runtime.ownership.owned_partition import CommitPoint, OwnedPartition
from anabranch.runtime.ownership.owner_context import OwnerContext
from anabranch.runtime.ownership.poison_records import REASON
from anabranch.runtime.ownership.replay import aged, group_by_time, split_batch
from anabranch.runtime.ownership.replay_slots import ReplaySemaphore
from anabranch.runtime.reading.log_range import records_between
from anabranch.runtime.side_by_side import side_by_side
from anabranch.runtime.until_available import UNAVAILABLE, until_available

log = logging.getLogger(__name__)

S = TypeVar("S")

BATCH = 500
RESTORED_BATCH, REPLAYS = 50, 3
"""Records of a turn whose effects are repeated for a store that lost them, and partitions that are replayed at
once. A partition that is restored holds a multiple of its records in memory until the effects of a turn are
performed. A mere rebuild drops them, and has a few exchanges with the store for each turn: its turns are large."""
RETRY_FIRST, RETRY_MAX = 0.05, 2.0
_WAITED_FOR = (*UNAVAILABLE, ValueGone)
_RETRIED = (*_WAITED_FOR, Fenced)


class TurnProcessor(Generic[S]):
    """Applies the records of one owner's partitions."""

    def __init__(self, context: OwnerContext[S], claims: PartitionClaims[S], timers: DueTimers[S]) -> None:
        self._context = context
        self._handler = context.handler
        self._claims = claims
        self._timers = timers
        self._writer = EffectWriter(context.resources, context.handler.fence_key)
        self._replays = ReplaySemaphore(REPLAYS)

    async def run(self, owned: OwnedPartition[S]) -> None:
        """Apply the queued records of a partition, batch by batch, until it is closing."""
        while not owned.closing:
            if not owned.queue:
                # No await between the check and `clear`, so a delivery in between cannot be missed.
                owned.wake.clear()
                await owned.wake.wait()
                continue
            if owned.is_caught_up:
                batch = self._take(owned, BATCH)
                await self._apply(owned, batch)
                owned.progress.advance(len(batch), batch[-1].offset)
            else:
                # Taken for each batch, not for the whole replay, so that partitions take turns.
                async with self._replays.slot():
                    await self._replay(
                        owned, self._take(owned, RESTORED_BATCH if owned.replay.restores else BATCH)
                    )
            self._timers.arm(owned)
            owned.progress.busy = False

    def _take(self, owned: OwnedPartition[S], count: int) -> Sequence[Incoming]:
        """Take the next records, with fragmented messages assembled."""
        batch = owned.queue.take(count)
        owned.progress.busy = True
        # Before the turn, so that the client fetches while this batch is applied.
        if owned.paused and owned.queue.is_short:
            owned.paused = False
            self._context.membership.resume(owned.number)
        return owned.assembled(batch)

    async def _replay(self, owned: OwnedPartition[S], batch: Sequence[Incoming]) -> None:
        """Apply a batch, cut at the committed offset and after the claim. Records after the claim may be in it."""
        for part in split_batch(batch, owned.replay.committed, owned.epoch):
            if part[-1].offset < owned.replay.committed:
                await self._rebuild(owned, part)
            else:
                await self._end_rebuild(owned, part[0].offset)
                if self._handler.snapshots.may_restore(owned.state):
                    await self._read_snapshots(owned, part)
                await self._apply(owned, part)
            owned.progress.advance(len(part), part[-1].offset)
            if not owned.is_caught_up and part[-1].offset >= owned.epoch:
                self._context.clock.observe(part[-1].timestamp, *owned.claimed)  # a part ends with the claim
                owned.end_replay()
                self._handler.snapshots.end(owned.state)
                await self._retry_until_available(owned, lambda: self._complete_takeover(owned))

    async def _complete_takeover(self, owned: OwnedPartition[S]) -> None:
        if not owned.is_marked:
            await self._context.loss_detector.mark_restored([owned.number])
            owned.is_marked = True
        await self._handler.on_takeover(owned.state)

    async def _end_rebuild(self, owned: OwnedPartition[S], offset: int) -> None:
        """End the rebuild, once: the records before the commit were read, and the next record has this offset.

        If there is no commit, the owner has read nothing before. If the log has lost its first records too, the
        snapshots up to the claim restore the runs that those records opened. Such a run does not count as lost
        before its snapshot was read.
        """
        if not owned.end_rebuild(self._handler):
            return
        snapshots = self._handler.snapshots
        if owned.replay.committed > 0 or offset == 0:
            snapshots.end(owned.state)
            return
        snapshots.begin(owned.state, offset)

        async def look_ahead() -> None:
            log, topic = self._context.resources.log, self._handler.topic
            async for record in records_between(log, topic, owned.number, offset, owned.epoch):
                snapshots.note_awaited(owned.state, record)

        await self._retry_until_available(owned, look_ahead)

    async def _rebuild(self, owned: OwnedPartition[S], records: Sequence[Incoming]) -> None:
        """Rebuild the state. Writes to the store are repeated if the store lost data; nothing is published
        again."""
        for part in group_by_time(records) if owned.replay.restores else (records,):
            # The list of rejected records is dropped: their dead letters were published before the commit.
            await self._read_snapshots(owned, part)
            effects = await self._decide(owned, part, [])
            if owned.replay.restores:
                stored = [each for each in effects if self._is_stored(each)]
                age = self._context.clock.now() - part[0].timestamp
                await self._perform(owned, aged(stored, age), ())

    async def _read_snapshots(self, owned: OwnedPartition[S], records: Sequence[Incoming]) -> None:
        """Read the snapshots that the rebuild needs, and again those records of their runs that are between a
        snapshot and the state in it."""
        snapshots, log = self._handler.snapshots, self._context.resources.log
        for gap in list(snapshots.read(owned.state, records)):
            start = owned.fragments.first_of(gap.start)

            async def fill(gap: Gap = gap, start: int = start) -> None:
                found = records_between(log, self._handler.topic, owned.number, start, gap.end)
                snapshots.fill(owned.state, gap, [record async for record in found])

            await self._retry_until_available(owned, fill)

    def _is_stored(self, effect: Effect) -> bool:
        return isinstance(effect, StorePut | AppendHistory | Expire) or self._handler.is_stored(effect)

    async def _apply(self, owned: OwnedPartition[S], records: Sequence[Incoming]) -> None:
        rejected: list[tuple[Incoming, str]] = []
        effects = await self._decide(owned, records, rejected)
        if not owned.is_caught_up:
            effects = [effect for effect in effects if not self._handler.is_derived(effect)]
        await self._perform(owned, effects, rejected)
        # After the effects: a position states that they were performed.
        owned.position = records[-1].offset + 1
        self._note_position(owned)

    def _note_position(self, owned: OwnedPartition[S]) -> None:
        """Note the position, to be committed once it is older than the loss window."""
        oldest = self._handler.oldest_open(owned.state)
        open_from = owned.position if oldest is None else min(oldest, owned.position)
        # The first fragments of a message that is not complete have to be read again, too.
        point = CommitPoint(owned.position, owned.fragments.begin(open_from), open_from)
        owned.commit_points.append(point)
        owned.trailing.mark(owned.position, self._context.clock.monotonic())

    # --- deciding ----------------------------------------------------------------------------------

    async def _decide(
        self, owned: OwnedPartition[S], records: Sequence[Incoming], rejected: list[tuple[Incoming, str]]
    ) -> list[Effect]:
        recall = partial(self._context.loss_detector.recall, owned.number)
        await self._retry_until_available(owned, lambda: self._handler.prepare(owned.state, records, recall))
        # A record that crashes an owner is always met again in a replay, by its successor. So only replays pay for
        # the guard's two writes.
        if owned.is_caught_up:
            return self._handler.decide(owned.state, records, rejected)
        return await self._decide_guarded(owned, records, rejected)

    async def _decide_guarded(
        self, owned: OwnedPartition[S], records: Sequence[Incoming], rejected: list[tuple[Incoming, str]]
    ) -> list[Effect]:
        """Decide about records of which one may have crashed the last owner; see `poison_records`."""
        effects: list[Effect] = []
        for part in owned.guard.split(records):
            if owned.guard.is_harmless(part):
                effects += self._handler.decide(owned.state, part, rejected)
                continue
            if owned.guard.is_poison(part[0]):
                place = f"{part[0].topic}/{owned.number}/{part[0].offset}"
                log.error("%s is a poison record and becomes a dead letter: %s", place, REASON)
                await self._retry_until_available(owned, partial(owned.guard.mark_poison, part[0]))
                effects += self._handler.dead_letter(owned.state, part[0], REASON, rejected)
                continue
            await self._retry_until_available(owned, partial(owned.guard.enter, part))
            effects += self._handler.decide(owned.state, part, rejected)
            await self._retry_until_available(owned, owned.guard.leave)
        return effects

    # --- performing --------------------------------------------------------------------------------

    async def _perform(
        self, owned: OwnedPartition[S], effects: Sequence[Effect], rejected: Sequence[tuple[Incoming, str]]
    ) -> None:
        """Perform effects in two stages: nothing is published of an outcome that is not durable yet."""
        turn = by_performer(effects)
        for record, reason in rejected:
            turn.first.append(dead_letter(self._context.resources.names, record, reason))
        # The epoch is read at each attempt: a claim that follows a fenced attempt raises it.
        if turn.first or turn.writes:
            await self._retry_until_available(owned, lambda: self._writer.make_durable(turn, owned.fence_epoch))
        if turn.own:
            await self._retry_until_available(
                owned, lambda: self._handler.make_durable(owned.state, turn.own, owned.fence_epoch)
            )
        second = [partial(self._writer.publish, turn)] if turn.after or turn.notifications else []
        second += [partial(self._handler.start_work, owned.state, turn.own)] if turn.own else []
        steps = [self._retry_until_available(owned, step) for step in second]
        if len(steps) == 2:
            await side_by_side(*steps)
        elif steps:
            await steps[0]
        if turn.last:
            await self._retry_until_available(owned, lambda: self._writer.publish_last(turn))
        self._context.metrics.record(turn.measured, is_caught_up=owned.is_caught_up)

    async def _retry_until_available(
        self, owned: OwnedPartition[S], action: Callable[[], Awaitable[None]]
    ) -> None:
        """Retry a step of a turn while a server is unavailable, a value is being restored, or the write is fenced.

        Effects may be repeated but are never left out: an owner that loses the partition meanwhile does not commit
        their position, and the next owner performs them.

        Raises:
            CancelledError: the partition is being released and a server is unavailable.
        """
        try:
            await action()
        except _RETRIED as error:
            await self._retry(owned, action, error)

    async def _retry(
        self, owned: OwnedPartition[S], action: Callable[[], Awaitable[None]], failed: AnabranchError
    ) -> None:
        # Two steps of a turn may wait at once, so each has an entry of its own.
        waits, key = owned.progress.waits, object()

        async def attempt() -> None:
            while True:
                try:
                    return await action()
                except Fenced as error:
                    await self._claims.claim_again(owned, error)

        def note_wait(error: AnabranchError) -> None:
            waits[id(key)] = str(error)
            if owned.closing:
                raise asyncio.CancelledError from error

        unavailable: AnabranchError | None = failed
        if isinstance(failed, Fenced):
            await self._claims.claim_again(owned, failed)
            unavailable = None
        await until_available(
            attempt,
            f"apply records of {self._handler.topic}/{owned.number}",
            delay=RETRY_FIRST,
            max_delay=RETRY_MAX,
            retry_on=_WAITED_FOR,
            on_failure=note_wait,
            failed=unavailable,
        )
        waits.pop(id(key), None)
