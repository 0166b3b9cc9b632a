"""Takes offers off the `tasks` topic as fast as there is room for them, and no faster.

An offset is committed once the offer was claimed, refused or given back: an offer is not ownership, and how
long its members run is no matter of the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from anabranch.core.names import Names
from anabranch.core.wire.codec import TASKS, Undecodable
from anabranch.core.wire.messages import Offer
from anabranch.ports import Clock, EventLog, Incoming
from anabranch.runtime.ownership.consumer import Consumer
from anabranch.runtime.ownership.dead_letter import dead_letter
from anabranch.runtime.until_available import until_available
from anabranch_taskgroup.worker.worker import Offered, Worker

log = logging.getLogger(__name__)

QUEUE = 256
BATCH = 64


class OfferConsumer:
    """Reads the workers' topic for one executor."""

    def __init__(self, executor: Worker, eventlog: EventLog, names: Names, clock: Clock) -> None:
        self._executor = executor
        self._clock = clock
        self._log = eventlog
        self._names = names
        self._inbox = Consumer(eventlog, names.taskgroup_tasks, names.tasks(), most=QUEUE)
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    @property
    def failure(self) -> BaseException | None:
        """What made the intake stop, if anything did."""
        return self._failure or self._inbox.failure

    @property
    def unhealthy_reason(self) -> str | None:
        """Why no offers may come any more; None where they may."""
        return self._inbox.unhealthy_reason

    async def start(self) -> None:
        """Join the workers' group."""
        await self._inbox.start()
        self._task = asyncio.create_task(self._take_loop(), name="offers")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Leave the group. Offers that were fetched and not taken go to other workers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._inbox.stop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
            log.critical("the intake of offers stopped", exc_info=self._failure)

    async def _take_loop(self) -> None:
        while True:
            await self._executor.wait_for_room()
            await self._inbox.filled()
            room = max(1, min(BATCH, self._executor.concurrency - self._executor.held))
            batch = await self._inbox.take(room)
            # Not to be cut short: what was claimed has to be started, or nobody would run it.
            await asyncio.shield(self._executor.take(await self._decoded(batch)))
            self._inbox.done(batch)

    async def _decoded(self, batch: Sequence[Incoming]) -> list[Offered]:
        offers: list[Offered] = []
        for record in batch:
            try:
                found = TASKS.decode(record.value)
            except Undecodable as error:
                await self._dead_letter(record, str(error))
                continue
            document, slices = (*found.segments, b"", b"")[:2]
            # How long the run may still take, counted from the offer's record: two machines' clocks may differ.
            deadline = self._clock.now() + found.message.deadline - record.timestamp
            offers.append((at_deadline(found.message, deadline), (document, slices)))
        return offers

    async def _dead_letter(self, record: Incoming, reason: str) -> None:
        """Publish an undecodable offer as a dead letter. The owner offers the chunk again, because no worker
        claims it in time."""
        letter = dead_letter(self._names, record, reason)
        await until_available(lambda: self._log.publish([letter]), "dead-letter an undecodable offer")


def at_deadline(offer: Offer, deadline: float) -> Offer:
    """The offer with its run's deadline by the worker's own clock, in seconds since the epoch."""
    return offer.model_copy(update={"deadline": deadline})
