"""Reads offers from the topics of a worker's pool, no faster than the worker has capacity for them.

It reads ahead in the topics of all levels, and begins offers in the order of `OfferQueue`. An offset is committed
once the offer, and all before it in the partition, were claimed, refused or handed back. An offer is no ownership:
its members may run for hours after that, and no rebalance of the topics affects them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from anabranch.core.errors import Misconfigured, ServerUnavailable
from anabranch.core.lanes import DEFAULT_POOL, DEFAULT_PRIORITY, Lane, lanes_of
from anabranch.core.wire.codec import TASKS, Undecodable
from anabranch.ports import Incoming
from anabranch.runtime.ownership.bounded_queue import RECORD_BYTES
from anabranch.runtime.ownership.consumer import Consumer
from anabranch.runtime.ownership.dead_letter import dead_letter
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.until_available import until_available
from anabranch_taskgroup.worker.offer_queue import OfferQueue, QueuedOffer
from anabranch_taskgroup.worker.offered import Offered
from anabranch_taskgroup.worker.worker import Worker

log = logging.getLogger(__name__)

MAX_QUEUED, MAX_QUEUED_BYTES = 2_048, 8_000_000
"""Offers of one topic that are read ahead; above it the log is paused. The worker cannot be fair to an offer that
it has not read, so this is more than owners leave waiting at a time, see `OfferWindow`."""
BATCH = 64
"""Maximum offers that are claimed with one call of the store."""
LEVELS_SECONDS = 10.0
"""How often a worker looks for the topics of levels that it does not read yet; see `OfferRouter`."""
LOOK_AGAIN_SECONDS = 0.2
"""How long an offer of another run waits, at most, after a chunk has begun whose slot it may get."""
BATCH_BYTES = 250_000
"""Bytes of offers after which a batch ends."""


class OfferConsumer:
    """Feeds one worker with offers.

    Args:
        pool: the pool of workers that it belongs to.
    """

    def __init__(self, worker: Worker, resources: Resources, pool: str = DEFAULT_POOL) -> None:
        self._worker = worker
        self._clock = resources.clock
        self._log = resources.log
        self._names = resources.names
        self._supervisor = resources.supervisor
        self._pool = pool
        self._tasks = resources.supervisor.tasks()
        self.queue = self._queue = OfferQueue()
        self._has_offers = asyncio.Event()
        self._looks_again = False
        """It waits for a change of the worker, or for a further offer."""
        self._consumers: dict[Lane, Consumer] = {}
        self._shares: dict[Lane, _LaneQueue] = {}

    @property
    def unhealthy_reason(self) -> str | None:
        """Why the log may not deliver offers any more; None if it does."""
        reasons = (each.unhealthy_reason for each in self._consumers.values())
        return next((reason for reason in reasons if reason is not None), None)

    @property
    def queued(self) -> int:
        """Offers that were read and wait for capacity."""
        return len(self._queue)

    async def start(self) -> None:
        """Join the workers' consumer groups on the topics of the pool that exist.

        Raises:
            ServerUnavailable: the log does not answer.
        """
        await self._join_levels()
        self._tasks.spawn(self._feed_loop(), "offers")
        self._tasks.spawn(self._levels_loop(), "levels")

    async def _levels_loop(self) -> None:
        """Join the groups of levels that come into use."""
        while len(self._consumers) < len(lanes_of(self._pool)):
            await asyncio.sleep(LEVELS_SECONDS)
            try:
                await self._join_levels()
            except ServerUnavailable as error:
                log.warning("taskgroup worker: cannot look for the topics of levels, retrying: %s", error)

    async def _join_levels(self) -> None:
        """Join the groups of the lanes that have a topic and are not read yet. Such a group has no position, so
        it begins with the first offer of the topic, also if that was made before any worker joined."""
        for lane in lanes_of(self._pool):
            if lane not in self._consumers and await self._exists(lane):
                await self._join(lane)

    async def _join(self, lane: Lane) -> None:
        self._shares[lane] = queue = _LaneQueue(self._queue, lane, self._filled, self._repeated)
        topic, group = self._names.tasks(lane), self._names.tasks_group(lane)
        consumer = Consumer(self._log, group, topic, self._supervisor, queue=queue, in_order=False)
        # Known before it joins: its offers may be taken, and marked as done in it, before `start` returns.
        self._consumers[lane] = consumer
        try:
            await consumer.start()
        except BaseException:
            del self._consumers[lane]  # it has not joined: the next look tries again
            raise

    def _filled(self) -> None:
        self._has_offers.set()
        if self._looks_again:
            self._worker.wake()

    def _repeated(self, lane: Lane, record: Incoming) -> None:
        """An offer came again that is in the queue: the first one stands for both."""
        self._consumers[lane].done([record])

    async def _exists(self, lane: Lane) -> bool:
        """True if a lane has a topic. That of `normal` has to: its absence is reported by the consumer."""
        if lane.priority == DEFAULT_PRIORITY:
            return True
        try:
            return await self._log.partition_count(self._names.tasks(lane)) > 0
        except Misconfigured:
            return False

    async def stop(self) -> None:
        """Leave the groups. Queued offers are delivered to other workers."""
        await self._tasks.cancel()
        for consumer in self._consumers.values():
            await consumer.stop()

    async def _feed_loop(self) -> None:
        while True:
            await self._worker.wait_for_reports()
            free = self._worker.concurrency - self._worker.taking_room
            if not self._queue.size:
                self._has_offers.clear()
                await self._has_offers.wait()
            elif free > 0:
                await self._feed(min(BATCH, free))
            else:
                await self._feed_another()

    async def _feed_another(self) -> None:
        """Feed one offer although as many chunks are held as there are slots, if it would get the next slot: a
        chunk may have hundreds of members."""
        following = self._queue.following().offered
        if following is None or self._worker.has_place_for(following.offer):
            await self._feed(1)
        else:
            is_there = self._worker.has_run(following.offer.run_id)
            self._looks_again = True
            try:
                await self._worker.wait_for_change(None if is_there else LOOK_AGAIN_SECONDS)
            finally:
                self._looks_again = False

    async def _feed(self, number: int) -> None:
        batch = self._take(number)
        # Shielded: a chunk that was claimed must be started, because its claim keeps every other worker from it.
        refused = await asyncio.shield(
            self._worker.accept([self._on_own_clock(each) for each in batch if each.offered])
        )
        if refused:
            self._queue.refused(refused)
        for queued in batch:
            if queued.offered is None:
                await self._dead_letter(queued)
            self._consumers[queued.lane].done([queued.record])

    def _take(self, number: int) -> Sequence[QueuedOffer]:
        batch: list[QueuedOffer] = []
        size = 0
        while self._queue.size and len(batch) < number and size < BATCH_BYTES:
            batch.append(queued := self._queue.pop())
            size += len(queued.record.value)
            self._shares[queued.lane].taken(queued.record)
        for lane in {queued.lane for queued in batch}:
            self._consumers[lane].resume_if_short()
        return batch

    def _on_own_clock(self, queued: QueuedOffer) -> Offered:
        """The offer with its deadline by this machine's clock: the time that the run had left when the broker
        stamped the record is counted from that stamp, so the clocks of owner and worker need not agree."""
        assert queued.offered is not None
        deadline = self._clock.now() + queued.offered.offer.deadline - queued.record.timestamp
        return queued.offered.with_deadline(deadline)

    async def _dead_letter(self, queued: QueuedOffer) -> None:
        """Dead-letter an undecodable offer. The owner offers the chunk again, because no worker claims it."""
        letter = dead_letter(self._names, queued.record, queued.problem)
        await until_available(lambda: self._log.publish([letter]), "dead-letter an undecodable offer")


class _LaneQueue:
    """The part of one lane in the queue of all offers: what the lane's consumer sees of it."""

    def __init__(
        self,
        queue: OfferQueue,
        lane: Lane,
        filled: Callable[[], None],
        repeated: Callable[[Lane, Incoming], None],
    ) -> None:
        self._queue = queue
        self._repeated = repeated
        self._lane = lane
        self._filled = filled
        self._size = 0
        self._bytes = 0

    def extend(self, records: Iterable[Incoming]) -> None:
        for record in records:
            if not self._queue.push(_decoded(self._lane, record)):
                self._repeated(self._lane, record)
                continue
            self._size += 1
            self._bytes += len(record.value) + RECORD_BYTES
        self._filled()

    def taken(self, record: Incoming) -> None:
        """Note that a record was taken from the queue of all."""
        self._size -= 1
        self._bytes -= len(record.value) + RECORD_BYTES

    def take(self, count: int) -> Sequence[Incoming]:
        raise NotImplementedError("offers are taken in the order of all lanes")

    def retain(self, is_wanted: Callable[[Incoming], bool]) -> None:
        self._queue.retain(partial(self._retains, is_wanted))

    def _retains(self, is_wanted: Callable[[Incoming], bool], queued: QueuedOffer) -> bool:
        if queued.lane != self._lane or is_wanted(queued.record):
            return True
        self.taken(queued.record)
        return False

    def clear(self) -> None:
        self.retain(lambda record: False)

    @property
    def is_long(self) -> bool:
        return self._size > MAX_QUEUED or self._bytes > MAX_QUEUED_BYTES

    @property
    def is_short(self) -> bool:
        return self._size * 4 <= MAX_QUEUED and self._bytes * 4 <= MAX_QUEUED_BYTES

    def __len__(self) -> int:
        return self._size


def _decoded(lane: Lane, record: Incoming) -> QueuedOffer:
    try:
        found = TASKS.decode(record.value)
    except Undecodable as error:
        return QueuedOffer(lane, record, None, str(error))
    document, slices = (*found.segments, b"", b"")[:2]
    return QueuedOffer(lane, record, Offered(found.message, (document, slices)))
