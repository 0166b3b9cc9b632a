"""Gets chunks to workers: offers them, here or through the log, and looks after those nobody works on."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

from anabranch.core.errors import RecordTooLarge, ServerUnavailable, StoreRefused, ValueGone
from anabranch.core.names import chunk_name
from anabranch.core.telemetry import OFFERS
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import ArrayCounted, ChunkLost, Offer
from anabranch.ports import Outgoing
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.store_identity import StoreLife
from anabranch_taskgroup.owner.offers import Offers
from anabranch_taskgroup.session.claim_monitor import ChunkDelivery, ClaimMonitor
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import OfferChunk
from anabranch_taskgroup.worker.offer_consumer import at_deadline
from anabranch_taskgroup.worker.worker import Offered, Worker

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
INLINE_CHUNKS = 8
"""An owner keeps first offers for itself while its process holds fewer chunks than this."""
ROUNDS_HERE = 2
"""And so many members of it at most, for each slot that is free, that the others are not done long before it."""
MOMENT_SECONDS = 0.1
"""A chunk that takes less than this is not counted by its members: its slots are free again soon."""

Found = tuple[Run, Group, Task, Chunk]


class Dispatcher:
    """Offers chunks for the partitions that this process owns."""

    def __init__(
        self, resources: Resources, offers: Offers, executor: Worker, life: StoreLife, clock: LogClock
    ) -> None:
        self._log = resources.log
        self._store = resources.store
        self._clock = clock
        self._names = resources.names
        self._offers = offers
        self._executor = executor
        self._life = life
        self._telemetry = resources.telemetry
        self._lease = resources.settings.worker_lease
        self._ledger = ClaimMonitor(self._lease)
        self._turns = count()
        self._partitions = 1

    async def start(self) -> None:
        """Learn how many partitions offers are spread over."""
        self._partitions = await self._log.partition_count(self._names.tasks())
        self._offers.fit_into(await self._log.record_limit(self._names.tasks()))

    # --- offering ----------------------------------------------------------------------------------

    async def offer(self, state: PartitionState, effects: Sequence[OfferChunk]) -> None:
        """Offer chunks as they stand now; one that ended meanwhile is left out.

        Raises:
            ValueGone: an array is missing in a store that changed, where it may be written again: ask again.
            ServerUnavailable: also where the log allows smaller records than it did: ask again.
        """
        local: list[Offered] = []
        remote: list[Outgoing] = []
        made: Counter[tuple[str, str]] = Counter()
        free = ROUNDS_HERE * self._executor.free
        now = self._clock.monotonic()
        for effect in effects:
            found = _chunk_of(state, effect)
            if found is None:
                continue
            try:
                offered = await self._offers.make(*found)
            except ValueGone as gone:
                if not await self._life.is_restored():
                    raise
                remote.append(self._cannot_expand(*found, gone))
                continue
            is_new = found[3].fence == found[2].first_fence
            is_first = self._ledger.offered(_place(*found), now) and is_new
            stays = free > 0 and is_new and self._stays_here(offered[0], found[1], len(local))
            made["first" if is_first else "again", "here" if stays else "elsewhere"] += 1
            if stays:
                local.append((at_deadline(offered[0], self._clock.local(offered[0].deadline)), offered[1]))
                free -= _slots_for(found[2], found[3])
            else:
                remote.append(self._on_tasks(offered))
        # Not to be cut short with the turn: what was claimed has to be started, or nobody would run it.
        taking = [asyncio.shield(self._executor.take(local))] if local else []
        if remote:
            await asyncio.gather(self._publish(remote), *taking)
        elif taking:
            await taking[0]
        for (delivery, place), count_of in made.items():
            self._telemetry.count(OFFERS, count_of, delivery=delivery, place=place)

    async def _publish(self, offers: Sequence[Outgoing]) -> None:
        try:
            await self._log.publish(offers)
        except RecordTooLarge as error:
            limit = await self._log.record_limit(self._names.tasks())
            self._offers.fit_into(limit)
            reason = f"a record may have {limit:,} bytes from now on: offers are made again ({error})"
            raise ServerUnavailable("Kafka", self._names.tasks(), reason) from error

    def _cannot_expand(self, run: Run, group: Group, task: Task, chunk: Chunk, gone: ValueGone) -> Outgoing:
        """The arrays of an expansion have expired under way: its task fails, the run goes on."""
        place = {"run_id": run.run_id, "group": group.name, "task": task.name}
        message = ArrayCounted(**place, error=str(gone), admission=run.admission)
        return Outgoing(self._names.groups, run.session_id, encode(message))

    def _stays_here(self, offer: Offer, group: Group, waiting: int) -> bool:
        """A first delivery may run beside its owner, which saves two hops, while few do and it starts at once:
        what would only wait here is better off elsewhere. Not once a worker has died over the group, for the next
        one would be its owner."""
        most = min(INLINE_CHUNKS, self._executor.concurrency)
        is_first = offer.mode == "fast" and not group.bereaved
        return is_first and self._executor.held + waiting < most and self._executor.has_room(offer.agent)

    def _on_tasks(self, offered: Offered) -> Outgoing:
        """Round robin by hand: records without a key clump on one partition."""
        offer, segments = offered
        partition = next(self._turns) % self._partitions
        return Outgoing(self._names.tasks(), None, encode(offer, segments), partition=partition)

    def look_again(self, state: PartitionState, run_id: str) -> None:
        """Offer again at the next look whatever of a run nobody has claimed."""
        self._adopt(found for found in _outstanding(state) if found[0].run_id == run_id)

    # --- sweeping ----------------------------------------------------------------------------------

    def took_over(self, state: PartitionState) -> None:
        """Whatever is outstanding in a partition that was taken over is offered at the next sweep."""
        self._adopt(_outstanding(state))

    def _adopt(self, chunks: Iterable[Found]) -> None:
        now = self._clock.monotonic()
        for found in chunks:
            self._ledger.adopt(_place(*found), now)

    async def sweep(self, states: Sequence[PartitionState]) -> None:
        """Offer again what nobody claimed; take back what a worker held that is gone."""
        outstanding = {_place(*found): found for state in states for found in _outstanding(state)}
        if not outstanding:
            return
        try:
            await self._look_after(states, list(outstanding))
        except (ServerUnavailable, StoreRefused, ValueGone) as error:
            log.warning("chunks cannot be looked after: %s", error)
            self._ledger.store_was_away(self._clock.monotonic())

    async def _look_after(self, states: Sequence[PartitionState], places: Sequence[ChunkDelivery]) -> None:
        now = self._clock.monotonic()
        claims = await self._claims(places)
        alive = await self._alive(claims)
        # Asked last, so that it is the age of the store that answered.
        if await self._life.age() < self._lease:
            self._ledger.store_was_away(now)
        findings = self._ledger.judge(claims, alive, now)
        for state in states:
            mine = [place for place in findings.offer_again if place.run_id in state.runs]
            await self.offer(state, [OfferChunk(p.run_id, p.group, p.task, p.chunk) for p in mine])
        if findings.lost:
            await self._log.publish([self._lost(place, worker) for place, worker in findings.lost])

    async def _claims(self, places: Sequence[ChunkDelivery]) -> dict[ChunkDelivery, str | None]:
        found = await self._store.get([self._claim_key(place) for place in places])
        holders = [value.decode() if value is not None else None for value in found]
        return dict(zip(places, holders, strict=True))

    def _claim_key(self, place: ChunkDelivery) -> str:
        chunk = chunk_name(place.group, place.task, place.chunk, place.fence)
        return self._names.claim(place.session_id, place.run_id, chunk)

    async def _alive(self, claims: dict[ChunkDelivery, str | None]) -> dict[str, bool]:
        workers = sorted({holder for holder in claims.values() if holder is not None})
        found = await self._store.get([self._names.worker(worker) for worker in workers])
        return {worker: value is not None for worker, value in zip(workers, found, strict=True)}

    def _lost(self, place: ChunkDelivery, worker: str) -> Outgoing:
        log.warning("worker %s is gone, its chunk %d of %s is taken back", worker, place.chunk, place.task)
        message = ChunkLost(
            run_id=place.run_id,
            group=place.group,
            task=place.task,
            chunk=place.chunk,
            fence=place.fence,
            worker=worker,
        )
        return Outgoing(self._names.groups, place.session_id, encode(message))


def _slots_for(task: Task, chunk: Chunk) -> int:
    """Slots that a chunk takes for a while: one for each member, unless it is known to be over in a moment."""
    seconds = task.member_seconds
    if seconds is not None and seconds * len(chunk.pending) < MOMENT_SECONDS:
        return 1
    return len(chunk.pending)


def _outstanding(state: PartitionState) -> Iterator[Found]:
    for run in state.runs.values():
        for group in run.groups.values():
            if group.unfinished:
                for task in group.tasks.values():
                    for chunk in task.chunks.values():
                        yield run, group, task, chunk


def _place(run: Run, group: Group, task: Task, chunk: Chunk) -> ChunkDelivery:
    return ChunkDelivery(run.run_id, run.session_id, group.name, task.name, chunk.number, chunk.fence)


def _chunk_of(state: PartitionState, effect: OfferChunk) -> Found | None:
    run = state.runs.get(effect.run_id)
    group = run.groups.get(effect.group) if run else None
    task = group.tasks.get(effect.task) if group else None
    chunk = task.chunks.get(effect.chunk) if task else None
    if run is None or group is None or task is None or chunk is None:
        return None
    return run, group, task, chunk
