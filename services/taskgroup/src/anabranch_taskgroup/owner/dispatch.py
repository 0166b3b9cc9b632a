"""Offers chunks to workers, in this process or through the log, and again if no worker claims or finishes them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from anabranch.core.errors import RecordTooLarge, ServerUnavailable, StoreRefused, ValueGone
from anabranch.core.lanes import DEFAULT_POOL
from anabranch.core.names import chunk_name
from anabranch.core.telemetry import OFFERS
from anabranch.core.waiting import NOTICE_SECONDS
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import ArrayCounted, ChunkLost, PoolMissing
from anabranch.core.wire.worker_card import WorkerCard
from anabranch.ports import Outgoing
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch_taskgroup.owner.local_room import SMALL_TASK, LocalRoom
from anabranch_taskgroup.owner.offer_router import OfferRouter
from anabranch_taskgroup.owner.offer_window import LaneKey, OfferWindow
from anabranch_taskgroup.owner.offers import Offers, TaskId, task_id
from anabranch_taskgroup.owner.pool_watch import PoolWatch
from anabranch_taskgroup.owner.unserved import UnservedTasks, tasks_of
from anabranch_taskgroup.owner.worker_directory import WorkerDirectory, has_room
from anabranch_taskgroup.session.claim_monitor import ChunkDelivery, ClaimMonitor
from anabranch_taskgroup.session.levels import fairness_key_of, priority_at
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import OfferChunk
from anabranch_taskgroup.worker.offer_queue import OfferQueue
from anabranch_taskgroup.worker.offered import ChunkKey, Offered
from anabranch_taskgroup.worker.worker import Worker

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
INLINE_CHUNKS = 8
"""An owner gives first offers to the worker of its own process while that worker holds fewer chunks than this."""
LOCAL_ROUNDS = 2
"""Members that one turn offers to the worker in this process, for each free slot of it. With more, this worker
would still run members of the turn while others have none left."""
OpenChunk = tuple[Run, Group, Task, Chunk]


class HeldOffer(NamedTuple):
    """A chunk to offer later."""

    state: PartitionState
    effect: OfferChunk


class Dispatcher:
    """Offers the chunks of the partitions that this process owns.

    Args:
        worker: the worker of the same process, which gets first offers directly, not through the log.
        queue: the offers that it has read, which are before those that it gets directly.
        pool: the pool of the worker.
    """

    def __init__(
        self,
        resources: Resources,
        offers: Offers,
        worker: Worker,
        router: OfferRouter,
        life: StoreIdentityTracker,
        clock: LogClock,
        queue: OfferQueue,
        pool: str = DEFAULT_POOL,
    ) -> None:
        self._log = resources.log
        self._store = resources.store
        self._clock = clock
        self._names = resources.names
        self._offers = offers
        self._worker = worker
        self._router = router
        self._life = life
        self._telemetry = resources.telemetry
        self._lease = resources.settings.worker_lease
        self._monitor = ClaimMonitor(self._lease)
        self._directory = WorkerDirectory(resources.store, resources.names, clock, worker.id)
        self._unserved = UnservedTasks(self._directory, resources.names, clock)
        self._has_requirements = False
        """Tasks that require resources have been offered here: they need more checks."""
        self._queue = queue
        self._pool = pool
        self.window: OfferWindow[HeldOffer] = OfferWindow()
        self._has_room = asyncio.Event()
        self._pools = PoolWatch(resources.log, resources.names, clock)

    async def start(self) -> None:
        """Read the partitions and the record limit of the topics that offers go to."""
        await self._router.start()
        self._offers.fit_into(await self._router.record_limit())

    def version_of(self, agent: str) -> str | None:
        """The version of an agent, None where the worker of this process does not have the agent."""
        return self._worker.version_of(agent)

    # --- offering ----------------------------------------------------------------------------------

    async def offer(
        self, state: PartitionState, effects: Sequence[OfferChunk], *, is_admitted: bool = False
    ) -> None:
        """Offer chunks in their present state; a chunk that has ended is left out. Those that the window has no
        room for are offered later.

        Args:
            is_admitted: the window has admitted all of them to the log.

        Raises:
            ValueGone: an array is missing in a store that lost data, and may be written again: retry later.
            ServerUnavailable: a server is away, or the log allows smaller records than before: retry later.
        """
        begun, local = list[Offered](), list[Offered]()
        remote, made = list[Outgoing](), list[tuple[str, str]]()
        room = self._local_room(is_admitted)
        may_begin, has_small = room.chunks > 0 and self._worker.may_begin(), False
        now = self._clock.monotonic()
        for effect in effects:
            found = _chunk_of(state, effect)
            if found is None:
                continue
            run, group, task, chunk = found
            delivery = _delivery(*found)
            is_repeated = self._monitor.has(delivery)
            if is_repeated and self._worker.has(_key_of(delivery)):
                continue  # the turn is repeated; a worker elsewhere would see no claim, and run the chunk, too
            is_new = chunk.fence == task.first_fence
            has_small |= (is_small := task.total <= SMALL_TASK)
            # On the log, a small task would wait behind the offers of wide runs.
            has_room = (room.members > 0 and room.chunks > 0) or (is_small and room.between > 0)
            stays = is_new and has_room and self._may_stay(run, group, task, chunk)
            if not (stays or is_admitted or self._is_admitted(state, effect, *found)):
                continue
            try:
                if stays:  # the worker compares deadlines with the clock of the machine
                    offered = await self._offers.make_here(*found, self._clock.local(run.deadline))
                else:
                    offered = await self._offers.make(*found)
            except ValueGone as gone:
                remote.append(await self._expired(found, gone))
                continue
            offered = offered.offered_again() if is_repeated else offered
            self._has_requirements |= (has_requirements := task.order.requires is not None)
            # Called for each offer, since the monitor has to note the time of repeated ones, too.
            is_first = self._monitor.offered(delivery, now, brief=has_requirements) and is_new
            if self._telemetry.measures:
                made.append(("first" if is_first else "again", "here" if stays else "elsewhere"))
            if stays:
                # Only the first offer of a chunk begins without a claim, and never one that was open when this
                # owner took over: it may have ended the process of the last owner, and left no claim.
                (begun if may_begin and is_first and not chunk.attempts else local).append(offered)
                room.take(task, chunk)
            else:
                remote.append(self._router.record(offered))
        if has_small:
            self._worker.expect_small_task()
        await self._hand_out(begun, local, remote)
        if made:
            self._count(made)

    def _count(self, made: Sequence[tuple[str, str]]) -> None:
        for (which, place), number in Counter(made).items():
            self._telemetry.count(OFFERS, number, delivery=which, place=place)

    def _local_room(self, is_admitted: bool) -> LocalRoom:
        """What the worker of this process may get in one turn: nothing of what the window has admitted to the
        log."""
        if is_admitted:
            return LocalRoom(0, 0, 0)
        worker = self._worker
        between = worker.room_between(INLINE_CHUNKS)
        return LocalRoom(LOCAL_ROUNDS * worker.free, worker.room(INLINE_CHUNKS), between)

    async def _expired(self, found: OpenChunk, gone: ValueGone) -> Outgoing:
        """The record that fails a task because arrays have expired.

        Raises:
            ValueGone: the store may restore them.
        """
        if not await self._life.is_restored():
            raise gone
        return self._cannot_expand(*found, gone)

    async def _hand_out(
        self, begun: Sequence[Offered], local: Sequence[Offered], remote: Sequence[Outgoing]
    ) -> None:
        self._worker.begin(begun)
        # Shielded: the turn is cancelled where the partition moves, but a chunk that the worker has claimed by
        # then must be started. Its claim keeps every other worker from running it.
        accepting = [asyncio.shield(self._worker.accept(local))] if local else []
        if remote:
            await asyncio.gather(self._publish(remote), *accepting)
        elif accepting:
            await accepting[0]

    async def _publish(self, offers: Sequence[Outgoing]) -> None:
        try:
            await self._log.publish(offers)
        except RecordTooLarge as error:
            limit = await self._router.record_limit()
            self._offers.fit_into(limit)
            reason = f"its record limit is {limit:,} bytes now; offers are made again, in that size ({error})"
            # As if the server were away: the turn is repeated, and makes its offers in the new size.
            raise ServerUnavailable("Kafka", offers[0].topic, reason) from error

    def _cannot_expand(self, run: Run, group: Group, task: Task, chunk: Chunk, gone: ValueGone) -> Outgoing:
        """The record that fails a task because the arrays of its expansion have expired; its run continues."""
        message = ArrayCounted(
            run_id=run.run_id, group=group.name, task=task.name, error=str(gone), iteration=task.iteration
        )
        return Outgoing(self._names.groups, run.session_id, encode(message))

    def _may_overtake(self, run: Run, task: Task, chunk: Chunk) -> bool:
        """True if a chunk may begin in this process before the offers that its worker has read."""
        path = (fairness_key_of(run, task), run.run_id)
        return self._queue.may_overtake(priority_at(run, task, chunk.offered_at), path, len(chunk.pending))

    def _is_admitted(
        self, state: PartitionState, effect: OfferChunk, run: Run, group: Group, task: Task, chunk: Chunk
    ) -> bool:
        order, priority = task.order, task.order.priority or run.priority
        if run.due_at is not None:  # else as `priority_at`, without a call
            priority = priority_at(run, task, chunk.offered_at)
        lane = LaneKey(order.pool or run.pool, priority)
        if not self._router.has_topic(lane.pool):
            self.window.close(lane)
        elif order.requires is not None:
            return True  # workers keep it until they have room: in the window it would be in the way of others
        key = (run.run_id, group.name, task.name, chunk.number, chunk.fence)
        # As `fairness_key_of`, without a call.
        path = (order.fairness_key or run.fairness_key or run.project, run.run_id)
        return self.window.admit(key, lane, path, len(chunk.pending), HeldOffer(state, effect))

    def note_begun(self, key: ChunkKey) -> None:
        """Note that a worker has begun or returned a chunk: further ones may be offered."""
        if self.window.begun(key):
            self._has_room.set()

    async def release_loop(self) -> None:
        """Offer what the window held back, as soon as it has room."""
        while True:
            await self._has_room.wait()
            self._has_room.clear()
            await self._release()

    async def _release(self) -> None:
        released: dict[int, tuple[PartitionState, list[OfferChunk]]] = {}
        for state, effect in self.window.release():
            released.setdefault(state.number, (state, []))[1].append(effect)
        for state, effects in released.values():
            try:
                await self.offer(state, effects, is_admitted=True)
            except (ServerUnavailable, StoreRefused, ValueGone) as error:
                log.warning(
                    "taskgroup owner: cannot offer %d chunks, retrying in %g s: %s",
                    len(effects),
                    SWEEP_SECONDS,
                    error,
                )
                self._offer_at_sweep(
                    found for effect in effects if (found := _chunk_of(state, effect)) is not None
                )

    def _offer_at_sweep(self, chunks: Iterable[OpenChunk]) -> None:
        now = self._clock.monotonic()
        for found in chunks:
            self._monitor.adopt(_delivery(*found), now)

    def forget(self, state: PartitionState) -> None:
        """Drop what is held back of a partition that has another owner now."""
        self.window.retain(lambda held: held.state is not state)

    def _may_stay(self, run: Run, group: Group, task: Task, chunk: Chunk) -> bool:
        """True if the worker of this process may get a chunk: it saves two hops, and its members start at once.

        False once a worker died over a member of the group: the next one to die would take the owner with it.
        """
        return (
            task.order.requires is None
            and chunk.mode == "fast"
            and not group.has_lost_worker
            and (task.order.pool or run.pool) == self._pool
            and self._worker.knows(task.order.agent)
            and (not self._queue.size or self._may_overtake(run, task, chunk))
        )

    def reoffer_unclaimed(self, state: PartitionState, run_ids: Container[str]) -> None:
        """Offer each unclaimed chunk of these runs again with the next sweep. One pass over the partition, however
        many runs: a takeover names all of them."""
        self._offer_at_sweep(found for found in _outstanding(state) if found[0].run_id in run_ids)

    async def hand_over(self, state: PartitionState) -> None:
        """Show the next owner of a partition which of its chunks are under way in this process."""
        await self._worker.hand_over([_key_of(_delivery(*found)) for found in _outstanding(state)])

    # --- sweeping ----------------------------------------------------------------------------------

    async def sweep(self, states: Sequence[PartitionState]) -> None:
        """Offer unclaimed chunks again, and report the chunks of dead workers as lost."""
        outstanding = {_delivery(*found): found for state in states for found in _outstanding(state)}
        self._offers.keep_only({task_id(run, task) for run, _, task, _ in outstanding.values()})
        await self._tend_window(outstanding)
        parked = [each for state in states for each in _parked(state)] if self._has_requirements else []
        if not outstanding and not parked:
            # The monitor forgets the chunks that have ended. Short runs leave many of them.
            self._monitor.judge({}, {}, self._clock.monotonic())
            return
        try:
            await self._check(states, outstanding, parked)
        except (ServerUnavailable, StoreRefused, ValueGone) as error:
            log.warning(
                "taskgroup owner: cannot check %d open chunks for lost workers, retrying in %g s: %s",
                len(outstanding),
                SWEEP_SECONDS,
                error,
            )
            self._monitor.store_was_away(self._clock.monotonic())

    async def _tend_window(self, outstanding: Mapping[ChunkDelivery, OpenChunk]) -> None:
        """Forget the chunks that ended without a start, and look for topics of pools and levels that had none."""
        if self.window.waiting:
            waiting = outstanding.items()
            self.window.keep_only(
                {_key_of(each) for each, (_, _, task, chunk) in waiting if chunk.number in task.waiting}
            )
        try:
            if self._router.has_unsplit(now := self._clock.monotonic()):
                await self._router.split(now)
            if self.window.held:
                for pool in await self._router.look_again():
                    self.window.open(pool)
        except ServerUnavailable as error:
            log.warning("taskgroup owner: cannot look for the topics of levels and pools, retrying: %s", error)
        if self.window.held:
            self._has_room.set()
        await self._report_missing_pools(outstanding.values())

    async def _report_missing_pools(self, outstanding: Iterable[OpenChunk]) -> None:
        """Have the runs say so whose chunks wait for a worker of a pool that has none."""
        before = self._clock.now() - NOTICE_SECONDS
        waiting: dict[TaskId, tuple[str, Run, Task, float]] = {}
        for run, _, task, chunk in outstanding:
            pool = task.order.pool or run.pool
            if pool == self._pool or task.lacks_workers_since is not None or chunk.offered_at > before:
                continue
            if chunk.number in task.waiting:
                earlier = waiting.get(task_id(run, task), (pool, run, task, chunk.offered_at))[3]
                waiting[task_id(run, task)] = pool, run, task, min(earlier, chunk.offered_at)
        if not waiting:
            return
        try:
            missing = await self._pools.without_workers({pool for pool, *_ in waiting.values()})
            await self._log.publish([self._pool_missing(*each) for each in waiting.values() if each[0] in missing])
        except ServerUnavailable as error:
            log.warning("taskgroup owner: cannot look for the workers of pools, looking again later: %s", error)

    def _pool_missing(self, pool: str, run: Run, task: Task, since: float) -> Outgoing:
        message = PoolMissing(
            run_id=run.run_id,
            group=task.group,
            task=task.name,
            pool=pool,
            since=since,
            iteration=task.iteration,
            admission=run.admission,
        )
        return Outgoing(self._names.groups, run.session_id, encode(message))

    async def _check(
        self,
        states: Sequence[PartitionState],
        outstanding: Mapping[ChunkDelivery, OpenChunk],
        parked: Sequence[tuple[Run, Task]],
    ) -> None:
        now, deliveries = self._clock.monotonic(), list(outstanding)
        # `now` is read before: an offer that is made during the reads is later than `now`, and is not judged.
        claims = await self._claims(deliveries)
        alive = await self._alive(claims)
        # The age is read last, so that it is the age of the store that answered the two reads before. A younger
        # store may lack liveness keys only because no worker has written to it yet.
        is_young = await self._life.age() < self._lease
        if is_young:
            self._monitor.store_was_away(now)
        # Looked at after the claims were read: a chunk that has ended here since is still known.
        here = {each for each, holder in claims.items() if holder is None and self._worker.has(_key_of(each))}
        findings = self._monitor.judge(claims, alive, now, here)
        again = await self._placeable(findings.offer_again, outstanding)
        for state in states:
            unclaimed = [each for each in again if each.run_id in state.runs]
            await self.offer(state, [OfferChunk(d.run_id, d.group, d.task, d.chunk) for d in unclaimed])
        if findings.lost:
            # A second check may publish the same loss before the first record is decided about; the fence makes
            # it stale.
            await self._log.publish([self._lost(delivery, worker) for delivery, worker in findings.lost])
        if not is_young:  # else workers may not have announced themselves in this store yet
            await self._report_unserved([*((run, task) for run, _, task, _ in outstanding.values()), *parked])

    async def _placeable(
        self, unclaimed: Sequence[ChunkDelivery], outstanding: Mapping[ChunkDelivery, OpenChunk]
    ) -> Sequence[ChunkDelivery]:
        """Those of the unclaimed chunks that a worker has room for. Where none has, the workers that could run a
        chunk have its offer, or have none, and a further one would not help."""
        if not (unclaimed and self._has_requirements):
            return unclaimed
        workers = await self._directory.workers()
        return [each for each in unclaimed if workers is None or _is_placeable(workers, *outstanding[each][:3])]

    async def _report_unserved(self, waiting: Iterable[tuple[Run, Task]]) -> None:
        """Publish which of these tasks no live worker can run."""
        records = await self._unserved.records(tasks_of(waiting))
        if records:
            await self._log.publish(records)

    async def _claims(self, deliveries: Sequence[ChunkDelivery]) -> dict[ChunkDelivery, str | None]:
        found = await self._store.get([self._claim_key(each) for each in deliveries]) if deliveries else []
        holders = [value.decode() if value is not None else None for value in found]
        return dict(zip(deliveries, holders, strict=True))

    def _claim_key(self, delivery: ChunkDelivery) -> str:
        chunk = chunk_name(delivery.group, delivery.task, delivery.chunk, delivery.fence)
        return self._names.claim(delivery.session_id, delivery.run_id, chunk)

    async def _alive(self, claims: dict[ChunkDelivery, str | None]) -> dict[str, bool]:
        workers = sorted({holder for holder in claims.values() if holder is not None})
        found = await self._store.get([self._names.worker(worker) for worker in workers]) if workers else []
        return {worker: value is not None for worker, value in zip(workers, found, strict=True)}

    def _lost(self, delivery: ChunkDelivery, worker: str) -> Outgoing:
        log.warning(
            "taskgroup owner: liveness key of worker %s lapsed; chunk %d of %s/%s in run %s is offered again",
            worker,
            delivery.chunk,
            delivery.group,
            delivery.task,
            delivery.run_id,
        )
        message = ChunkLost(
            run_id=delivery.run_id,
            group=delivery.group,
            task=delivery.task,
            chunk=delivery.chunk,
            fence=delivery.fence,
            worker=worker,
        )
        return Outgoing(self._names.groups, delivery.session_id, encode(message))


def _outstanding(state: PartitionState) -> Iterator[OpenChunk]:
    """The chunks that were offered and have not ended."""
    for run in state.runs.values():
        for group in run.groups.values():
            if group.unfinished:
                for task in group.tasks.values():
                    for chunk in task.chunks.values():
                        yield run, group, task, chunk


def _parked(state: PartitionState) -> Iterator[tuple[Run, Task]]:
    """The tasks that require resources, and of which each chunk was returned by a worker without them."""
    for run in state.runs.values():
        for group in run.groups.values():
            for task in group.tasks.values() if group.unfinished else ():
                if task.parked and not task.chunks and task.order.requires is not None:
                    yield run, task


def _is_placeable(workers: Sequence[WorkerCard], run: Run, group: Group, task: Task) -> bool:
    requires = task.order.requires
    return requires is None or has_room(workers, task.order, task.order.pool or run.pool, requires)


def _delivery(run: Run, group: Group, task: Task, chunk: Chunk) -> ChunkDelivery:
    return ChunkDelivery(run.run_id, run.session_id, group.name, task.name, chunk.number, chunk.fence)


def _key_of(delivery: ChunkDelivery) -> ChunkKey:
    return delivery.run_id, delivery.group, delivery.task, delivery.chunk, delivery.fence


def _chunk_of(state: PartitionState, effect: OfferChunk) -> OpenChunk | None:
    run = state.runs.get(effect.run_id)
    group = run.groups.get(effect.group) if run else None
    task = group.tasks.get(effect.task) if group else None
    chunk = task.chunks.get(effect.chunk) if task else None
    if run is None or group is None or task is None or chunk is None:
        return None
    return run, group, task, chunk
