"""The shell around an actor: owns partitions of a topic, feeds `decide`, does its effects, commits behind.

State is a fold over the partition. A new owner publishes a claim, whose offset is its epoch, and replays from
the first record of the oldest run that was open at the committed offset. Records below the committed offset
only rebuild state. Those between it and the claim may have lost their effects with the last owner: what makes
outcomes durable and known is done again, identically. What merely starts work (offers, watches) is derived
from the state once the claim is reached.

The committed offset trails behind by the store's loss window, because a store may come back a second older.
This module decides nothing about runs, groups or tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

from anabranch.core.admissions import log_position, offset_of
from anabranch.core.errors import AnabranchError, Fenced, ServerUnavailable, StoreRefused
from anabranch.core.names import Names
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import ClaimPartition
from anabranch.ports import (
    Committed,
    EventLog,
    Incoming,
    Membership,
    Notifier,
    Outgoing,
    StateStore,
    Telemetry,
)
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.ownership.dead_letter import dead_letter
from anabranch.runtime.ownership.due_timers import DueTimers
from anabranch.runtime.ownership.effect_writer import EffectWriter
from anabranch.runtime.ownership.effects import AppendHistory, Effect, Expire, PublishFirst, StorePut
from anabranch.runtime.ownership.handler import PartitionHandler
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.ownership.log_generation import generation_of, is_of_later_life, rise_above
from anabranch.runtime.ownership.loss_detector import LossDetector
from anabranch.runtime.ownership.owned_partition import CommitPoint, OwnedPartition
from anabranch.runtime.ownership.owner_metrics import OwnerMeasures
from anabranch.runtime.ownership.poison_records import REASON, PoisonRecordGuard
from anabranch.runtime.ownership.replay import (
    aged,
    as_old_as,
    generation_noted,
    of_one_time,
    of_this_log,
    replay_begin,
    replay_of,
    split_batch,
)
from anabranch.runtime.ownership.replay_slots import ReplaySemaphore
from anabranch.runtime.ownership.turn_retries import apply_until_available
from anabranch.runtime.ownership.watchdog import Progress, Watchdog
from anabranch.runtime.topic_lives import TopicLives

log = logging.getLogger(__name__)

S = TypeVar("S")

BATCH = 500
REPLAY_BATCH, REPLAYS = 50, 3
"""So much of so many partitions is replayed at once: what each holds meanwhile is a multiple of its records."""
COMMIT_EVERY = 1.0
REBUILT_WINDOWS = 2
"""Ended runs are still rebuilt for so many loss windows: longer than another owner may repeat news of them."""


class Owner(Generic[S]):
    """Owns the partitions of one topic for one service. A `PartitionListener`.

    Args:
        loss_window: seconds that the store may forget.
        stall_after: seconds without a decision, while records wait and servers are there, that count as stuck.
        name: the owner's name in claims, one for each life of a process.
    """

    def __init__(
        self,
        domain: PartitionHandler[S],
        eventlog: EventLog,
        store: StateStore,
        notifier: Notifier,
        names: Names,
        clock: LogClock,
        *,
        name: str,
        loss_window: float = 5.0,
        fence_ttl: float = 172_800.0,
        stall_after: float = 120.0,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._domain = domain
        self._log = eventlog
        self._store = store
        self._names = names
        self._clock = clock
        """The log's: its records say when something is due."""
        self._name = name
        self._loss_window = loss_window
        self._marks = LossDetector(store, names, domain.topic)
        self._measures = OwnerMeasures(telemetry, clock, domain.topic.removeprefix(names.prefix))
        self._writer = EffectWriter(eventlog, store, notifier, names, domain.fence_key, fence_ttl)
        self._owned: dict[int, OwnedPartition[S]] = {}
        self._generation = 0
        """The latest of the log that this process has seen: the store may forget it."""
        self._lives = TopicLives(eventlog, domain.topic)
        self._replays = ReplaySemaphore(REPLAYS)
        self._membership: Membership | None = None
        self._watch = Watchdog(eventlog, domain.group, domain.topic, clock, self._progress, patience=stall_after)
        self._timers = DueTimers(domain, eventlog, clock, self._spawn)
        self._away: str | None = None
        self._committer: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._rejoining = False
        self.failure: BaseException | None = None
        """What made the owner stop, if it did: liveness fails then."""

    # --- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join the consumer group; returns once a member, which may be before partitions are assigned."""
        self._membership = await self._log.join(self._domain.group, [self._domain.topic], self)
        self._committer = asyncio.create_task(self._commit_loop(), name=f"commit {self._domain.topic}")
        self._committer.add_done_callback(self._worker_ended)
        self._watcher = asyncio.create_task(self._watch.run(), name=f"watch {self._domain.topic}")
        self._watcher.add_done_callback(self._worker_ended)

    async def stop(self) -> None:
        """Leave the group in good order: effects under way end, positions are committed."""
        for each in (self._committer, self._watcher):
            if each is not None:
                each.cancel()
        if self._membership is not None:
            await self._membership.close()
        for task in list(self._background):
            task.cancel()

    @property
    def states(self) -> dict[int, S]:
        """The state of each partition that is owned and caught up."""
        return {number: owned.state for number, owned in self._owned.items() if owned.is_caught_up}

    @property
    def is_caught_up(self) -> bool:
        return all(owned.is_caught_up for owned in self._owned.values())

    @property
    def unhealthy_reason(self) -> str | None:
        """Why it does not do its work although it runs, None where it does: liveness fails then."""
        polling = self._membership.unhealthy_reason() if self._membership is not None else None
        return polling or self._watch.unhealthy_reason

    @property
    def waiting_for(self) -> str | None:
        """The server, or value, that it waits for; None where it waits for none: readiness fails meanwhile."""
        return self._watch.waiting_for or self._away

    def _progress(self) -> dict[int, Progress]:
        return {number: owned.progress for number, owned in self._owned.items()}

    @property
    def backlog(self) -> int:
        return sum(len(owned.queue) for owned in self._owned.values())

    # --- PartitionListener -------------------------------------------------------------------------

    async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
        """Claim the partition; start at the oldest open run's first record."""
        await self._lives.assigned(partition)
        store = await self._store.identity()
        kept = not await self._marks.missing([partition])
        if not kept:
            await self._marks.begin([partition])
        noted = max(generation_noted(committed), self._generation)
        generation = await generation_of(self._log, self._store, self._names, topic, noted)
        self._generation = max(self._generation, generation)
        guard = PoisonRecordGuard(self._store, self._names.deciding(topic, partition, generation))
        await guard.load()
        epoch, claimed = await self._claim(partition)
        found, committed = committed, of_this_log(committed, generation, epoch)
        replay = replay_of(committed, store, kept=kept, generation=generation)
        if committed is not found:
            replay = replace(replay, start=0)  # else the client begins at the commit that does not count
        if replay.restores:
            begin = await self._marks.begin_of(partition)
            replay = as_old_as(replay, None if begin is None else offset_of(begin, generation))
        self._marks.note_again(partition)
        owned = OwnedPartition.taken_over(
            partition,
            self._domain.new_state(partition, generation),
            replay,
            epoch,
            generation,
            store,
            guard,
            committed,
            is_marked=kept,
            loss_window=self._loss_window,
            rebuild_window=REBUILT_WINDOWS * self._loss_window,
            now=self._clock.monotonic(),
        )
        owned.claimed = claimed
        self._owned[partition] = owned
        owned.task = asyncio.create_task(self._work(owned), name=f"own {topic}/{partition}")
        owned.task.add_done_callback(self._worker_ended)
        log.info("claimed %s/%d at epoch %d: %s", topic, partition, epoch, replay)
        return replay.start

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        owned = self._owned.pop(partition, None)
        if owned is None:
            return None
        await self._close(owned)
        return owned.committable(self._clock.monotonic())

    async def lost(self, topic: str, partition: int) -> None:
        owned = self._owned.pop(partition, None)
        if owned is not None:
            owned.closing = True
            if owned.task is not None:
                owned.task.cancel()
            await self._release(owned)

    def deliver(self, topic: str, partition: int, records: Sequence[Incoming]) -> None:
        owned = self._owned.get(partition)
        if owned is None:
            return
        if records[0].offset < owned.expected:
            self._log_began_again(owned, records[0].offset)
            return
        owned.expected = records[-1].offset + 1
        self._lives.delivered(partition, records)
        owned.queue.extend(records)
        owned.wake.set()
        if owned.queue.is_long and not owned.paused and self._membership is not None:
            owned.paused = True
            self._membership.pause(topic, partition)

    def _log_began_again(self, owned: OwnedPartition[S], offset: int) -> None:
        """Records come in order, and never twice to one assignment: the topic was deleted and created again."""
        if not self._rejoining:
            topic = f"{self._domain.topic}/{owned.number}"
            log.error(
                "%s: offset %d after %d: the topic is another one; joining again", topic, offset, owned.expected
            )
            self._begin_rejoining()

    def _begin_rejoining(self) -> None:
        if not self._rejoining:
            self._rejoining = True
            self._spawn(self._rejoin())

    async def _close(self, owned: OwnedPartition[S]) -> None:
        """Let the turn under way end, take no other."""
        owned.closing = True
        owned.queue.clear()
        owned.wake.set()
        if owned.task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await owned.task
        await self._release(owned)

    async def _release(self, owned: OwnedPartition[S]) -> None:
        if owned.timer is not None:
            owned.timer.cancel()
        await self._domain.gave_up(owned.state)

    def _worker_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            log.critical("the owner of a partition of %s stopped", self._domain.topic, exc_info=self.failure)

    # --- turns -------------------------------------------------------------------------------------

    async def _claim(self, partition: int) -> tuple[int, tuple[float, float]]:
        """The offset of the claim; when it was published and when acknowledged, by this machine's clock."""
        claim, began = encode(ClaimPartition(owner=self._name)), self._clock.machine_now()
        [epoch] = await self._log.publish([Outgoing(self._domain.topic, None, claim, partition=partition)])
        self._measures.claimed()
        self._lives.claimed(partition, epoch)
        return epoch, (began, self._clock.machine_now())

    async def _work(self, owned: OwnedPartition[S]) -> None:
        while not owned.closing:
            if not owned.queue:
                owned.wake.clear()
                await owned.wake.wait()
                continue
            async with self._replays.one(needed=not owned.is_caught_up):
                batch = owned.queue.take(BATCH if owned.is_caught_up else REPLAY_BATCH)
                self._resume(owned)
                with owned.progress.working():
                    await self._turn(owned, batch)

    def _resume(self, owned: OwnedPartition[S]) -> None:
        if owned.paused and owned.queue.is_short and self._membership is not None:
            owned.paused = False
            self._membership.resume(self._domain.topic, owned.number)

    async def _turn(self, owned: OwnedPartition[S], batch: Sequence[Incoming]) -> None:
        """Apply a batch. Its parts below the committed offset, below the claim, and after it differ."""
        parts = split_batch(
            owned.whole(batch), owned.replay.committed, owned.epoch if not owned.is_caught_up else -1
        )
        for part in parts:
            if part[-1].offset < owned.replay.committed:
                await self._rebuild(owned, part)
            else:
                owned.rebuilt(self._domain)
                await self._apply(owned, part)
            owned.progress.note(len(part), part[-1].offset)
            if not owned.is_caught_up and part[-1].offset >= owned.epoch:
                self._clock.observe(part[-1].timestamp, *owned.claimed)  # a part ends with the claim
                owned.caught_up()
                await self._retry_until_available(owned, lambda: self._took_over(owned))
        self._timers.arm(owned)

    async def _took_over(self, owned: OwnedPartition[S]) -> None:
        if not owned.is_marked:
            await self._marks.set([owned.number])
            owned.is_marked = True
        await self._domain.took_over(owned.state)

    async def _rebuild(self, owned: OwnedPartition[S], records: Sequence[Incoming]) -> None:
        """Rebuild the state; write again what a store of another life lacks. The news of it is out already."""
        for part in of_one_time(records) if owned.replay.restores else (records,):
            effects = await self._decide(owned, part, [])
            if owned.replay.restores:
                stored = [each for each in effects if self._is_stored(each)]
                await self._perform(owned, aged(stored, self._clock.now() - part[0].timestamp), ())

    def _is_stored(self, effect: Effect) -> bool:
        return isinstance(effect, StorePut | AppendHistory | Expire) or self._domain.is_stored(effect)

    async def _apply(self, owned: OwnedPartition[S], records: Sequence[Incoming]) -> None:
        rejected: list[tuple[Incoming, str]] = []
        effects = await self._decide(owned, records, rejected)
        if not owned.is_caught_up:
            effects = [effect for effect in effects if not self._domain.is_derived(effect)]
        await self._perform(owned, effects, rejected)
        owned.position = records[-1].offset + 1
        self._mark(owned)

    async def _decide(
        self, owned: OwnedPartition[S], records: Sequence[Incoming], rejected: list[tuple[Incoming, str]]
    ) -> list[Effect]:
        recall = partial(self._marks.recall, owned.number)
        await self._retry_until_available(owned, lambda: self._domain.prepare(owned.state, records, recall))
        if owned.is_caught_up:
            return self._domain.decide(owned.state, records, rejected)
        return await self._decide_guarded(owned, records, rejected)

    async def _decide_guarded(
        self, owned: OwnedPartition[S], records: Sequence[Incoming], rejected: list[tuple[Incoming, str]]
    ) -> list[Effect]:
        """Decide about what the last owner may have died of."""
        effects: list[Effect] = []
        for part in owned.guard.parts(records):
            if owned.guard.is_harmless(part):
                effects += self._domain.decide(owned.state, part, rejected)
                continue
            if owned.guard.is_poison(part[0]):
                log.error("%s/%d, offset %d is buried: %s", part[0].topic, owned.number, part[0].offset, REASON)
                await self._retry_until_available(owned, partial(owned.guard.bury, part[0]))
                effects += self._domain.bury(owned.state, part[0], REASON, rejected)
                continue
            await self._retry_until_available(owned, partial(owned.guard.enter, part))
            effects += self._domain.decide(owned.state, part, rejected)
            await self._retry_until_available(owned, owned.guard.leave)
        return effects

    def _mark(self, owned: OwnedPartition[S]) -> None:
        oldest = self._domain.oldest_open(owned.state)
        open_from = owned.position if oldest is None else min(oldest, owned.position)
        owned.marks.append(CommitPoint(owned.position, owned.fragments.begin(open_from), open_from))
        owned.trailing.mark(owned.position, self._clock.monotonic())

    async def _perform(
        self, owned: OwnedPartition[S], effects: Sequence[Effect], rejected: Sequence[tuple[Incoming, str]]
    ) -> None:
        if not effects and not rejected:
            return
        durable = [effect.outgoing for effect in effects if isinstance(effect, PublishFirst)]
        durable += [dead_letter(self._names, record, reason) for record, reason in rejected]
        # The epoch is read at each attempt: a claim that follows a fenced attempt raises it.
        await self._retry_until_available(
            owned, lambda: self._writer.make_durable(effects, durable, owned.fence_epoch)
        )
        await self._retry_until_available(
            owned, lambda: self._domain.before_news(owned.state, effects, owned.fence_epoch)
        )
        await asyncio.gather(
            self._retry_until_available(owned, lambda: self._writer.publish_news(effects)),
            self._retry_until_available(owned, lambda: self._domain.with_news(owned.state, effects)),
        )
        self._measures.told(effects, is_caught_up=owned.is_caught_up)

    async def _retry_until_available(
        self, owned: OwnedPartition[S], action: Callable[[], Awaitable[None]]
    ) -> None:
        await apply_until_available(owned, self._domain.topic, action, partial(self._claim_again, owned))

    async def _claim_again(self, owned: OwnedPartition[S], error: Fenced) -> None:
        """A zombie claimed after this owner: claim again, unless this one is the zombie and was not told yet. By a
        fence of a later life of the log it takes the partition over again."""
        log.warning("%s/%d: %s", self._domain.topic, owned.number, error)
        await asyncio.sleep(1.0)
        if owned.closing or self._owned.get(owned.number) is not owned or self._membership is None:
            raise asyncio.CancelledError
        if not await self._membership.confirm(self._domain.topic, owned.number, owned.confirmed):
            return
        with contextlib.suppress(ServerUnavailable, StoreRefused):  # else it is refused again, and claims then
            topic = self._domain.topic
            end = (await self._log.group_standing(self._domain.group, topic))[owned.number].end
            if is_of_later_life(error.current, owned.generation, end):
                await rise_above(error.current, end, self._log, self._store, self._names, topic)
                self._begin_rejoining()
            else:
                owned.epoch, owned.claimed = await self._claim(owned.number)

    # --- timers and commits ------------------------------------------------------------------------

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(self._worker_ended)

    async def _commit_loop(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY)
            self._measures.show(len(owned.queue) for owned in self._owned.values())
            try:
                await self._commit_all()
                self._away = None
            except AnabranchError as error:
                self._away = str(error)
                log.warning("positions of %s were not committed: %s", self._domain.topic, error)

    async def _commit_all(self) -> None:
        await self._check_identity()
        if not self._rejoining and await self._lives.are_over(self._owned):
            self._begin_rejoining()
        if self._rejoining:
            return  # a store that is another one has to keep its own mark: it says how old it is
        for owned in list(self._owned.values()):
            if self._owned.get(owned.number) is not owned:
                continue  # lost during the commit before: it is another's, who may be further
            found = owned.committable(self._clock.monotonic())
            if found is not None and found != owned.last_commit and self._membership is not None:
                await self._membership.commit(self._domain.topic, owned.number, found)
                owned.last_commit = found
        await self._mark_store()

    async def _mark_store(self) -> None:
        """Note in the store itself how far it is, for the case that it comes back as it is now."""
        marked = [owned for owned in self._owned.values() if owned.is_marked and owned.last_commit is not None]
        begins = {each.number: log_position(each.generation, replay_begin(each.last_commit)) for each in marked}
        await self._marks.note_changes(begins, self._clock.monotonic())

    async def _check_identity(self) -> None:
        """A store that is another one, or lacks a mark, may have forgotten: nothing younger is committed, and what
        it should have is written again."""
        if not self._owned or self._rejoining:
            return
        store = await self._store.identity()
        marked = [number for number, owned in self._owned.items() if owned.is_marked]
        forgot = await self._marks.forgot(marked)
        if not forgot and all(owned.store == store for owned in self._owned.values()):
            return
        log.warning("the store has forgotten %s: writing it again", "everything" if forgot else "maybe a little")
        for owned in self._owned.values():
            owned.trailing.reset()
        self._begin_rejoining()

    async def _rejoin(self) -> None:
        """Take every partition over anew."""
        try:
            if self._membership is not None:
                await self._membership.close()
                for number in list(self._owned):  # of which the membership did not tell
                    await self.lost(self._domain.topic, number)
                self._membership = await self._log.join(self._domain.group, [self._domain.topic], self)
        except Exception as error:
            self.failure = error
            log.critical("the owner of %s could not join its group again", self._domain.topic, exc_info=error)
        finally:
            self._rejoining = False
