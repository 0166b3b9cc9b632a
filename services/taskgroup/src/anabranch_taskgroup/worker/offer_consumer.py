"""Reads offers from the topics of a worker's lanes, no faster than the worker has capacity for them.

An offset is committed once the offer was claimed, refused or handed back. An offer is not ownership: its members
may run for hours after that, and no rebalance of the topic affects them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from anabranch.core.lanes import DEFAULT_LANE, Lane
from anabranch.core.wire.codec import TASKS, Undecodable
from anabranch.ports import Incoming
from anabranch.runtime.ownership.consumer import Consumer
from anabranch.runtime.ownership.dead_letter import dead_letter
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.until_available import until_available
from anabranch_taskgroup.worker.lane_turns import LaneTurns
from anabranch_taskgroup.worker.offered import Offered
from anabranch_taskgroup.worker.worker import Worker

log = logging.getLogger(__name__)

QUEUE = 256
"""Offers of one lane that are fetched ahead; above it the log is paused."""
BATCH = 64
"""Maximum offers that are claimed with one call of the store."""

DEFAULT_LANES: Mapping[Lane, int] = {DEFAULT_LANE: 1}


class OfferConsumer:
    """Feeds one worker with offers.

    Args:
        lanes: the lanes to read, each with its weight: of two busy lanes with weights 3 and 1 the first gets three
            of four offers.
    """

    def __init__(
        self,
        worker: Worker,
        resources: Resources,
        lanes: Mapping[Lane, int] = DEFAULT_LANES,
    ) -> None:
        self._worker = worker
        self._clock = resources.clock
        self._log = resources.log
        self._names = names = resources.names
        self._tasks = resources.supervisor.tasks()
        self._turns = LaneTurns(lanes)
        self._consumers = {
            lane: Consumer(
                resources.log, names.taskgroup_tasks, names.tasks(lane), resources.supervisor, max_queued=QUEUE
            )
            for lane in lanes
        }

    @property
    def unhealthy_reason(self) -> str | None:
        """Why the log may not deliver offers any more; None if it does."""
        reasons = (each.unhealthy_reason for each in self._consumers.values())
        return next((reason for reason in reasons if reason is not None), None)

    @property
    def queued(self) -> int:
        """Offers that were fetched and wait for capacity."""
        return sum(each.queued for each in self._consumers.values())

    async def start(self) -> None:
        """Join the workers' consumer group."""
        for consumer in self._consumers.values():
            await consumer.start()
        self._tasks.spawn(self._feed_loop(), "offers")

    async def stop(self) -> None:
        """Leave the group. Queued offers are delivered to other workers."""
        await self._tasks.cancel()
        for consumer in self._consumers.values():
            await consumer.stop()

    async def _feed_loop(self) -> None:
        while True:
            await self._worker.wait_for_capacity()
            await self._wait_for_offers()
            # At least one: the owner in this process may have filled the worker since it had capacity.
            capacity = max(1, min(BATCH, self._worker.concurrency - self._worker.held))
            queued = {lane: consumer.queued for lane, consumer in self._consumers.items()}
            for lane, number in self._turns.share(capacity, queued).items():
                await self._feed(self._consumers[lane], number)

    async def _feed(self, consumer: Consumer, number: int) -> None:
        if not consumer.queued:  # its partitions were revoked while another lane was fed
            return
        batch = await consumer.take(number)
        # Shielded: a chunk that was claimed must be started, because its claim keeps every other worker from it.
        await asyncio.shield(self._worker.accept(await self._decoded(batch)))
        consumer.done(batch)

    async def _wait_for_offers(self) -> None:
        """Return once an offer is queued in any lane."""
        consumers = list(self._consumers.values())
        # Without tasks for a single lane, which is the usual case: this is called for each batch.
        if len(consumers) == 1:
            await consumers[0].filled()
            return
        waits = [asyncio.ensure_future(each.filled()) for each in consumers]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _decoded(self, batch: Sequence[Incoming]) -> list[Offered]:
        offers: list[Offered] = []
        for record in batch:
            try:
                found = TASKS.decode(record.value)
            except Undecodable as error:
                await self._dead_letter(record, str(error))
                continue
            document, slices = (*found.segments, b"", b"")[:2]
            # The deadline is converted to this machine's clock: the time that the run had left when the broker
            # stamped the record is counted from that stamp, so the clocks of owner and worker need not agree.
            deadline = self._clock.now() + found.message.deadline - record.timestamp
            offers.append(Offered(found.message, (document, slices)).with_deadline(deadline))
        return offers

    async def _dead_letter(self, record: Incoming, reason: str) -> None:
        """Dead-letter an undecodable offer. The owner offers the chunk again, because no worker claims it."""
        letter = dead_letter(self._names, record, reason)
        await until_available(lambda: self._log.publish([letter]), "dead-letter an undecodable offer")
