"""Ordered outbox of a worker's reports: published in batches, retried until the log acknowledges them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from anabranch.core.errors import ServerUnavailable
from anabranch.ports import EventLog, Outgoing

log = logging.getLogger(__name__)

BATCH = 1_000
"""Maximum records that are published with one call."""
RETRY_SECONDS = 0.2


class Outbox:
    """Records that wait for the log, oldest first.

    Owners rely on the order: the pages of a large value precede the report that names them, and a report precedes
    the message that returns its chunk. So one loop publishes, and a batch leaves the queue only once it is
    acknowledged. A batch that is sent again may be on the log twice; owners drop what they have read before.
    """

    def __init__(self, eventlog: EventLog) -> None:
        self._log = eventlog
        self._waiting: list[Outgoing] = []
        self._sent = self._published = 0
        self._work = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._stopped = False

    def send(self, records: Iterable[Outgoing]) -> None:
        """Queue records behind those that were sent before."""
        before = len(self._waiting)
        self._waiting += records
        self._sent += len(self._waiting) - before
        self._work.set()

    async def published(self) -> None:
        """Return once all records that were sent before this call are on the log, or `run` was cancelled."""
        sent = self._sent
        while self._published < sent and not self._stopped:
            self._acknowledged.clear()
            self._work.set()
            await self._acknowledged.wait()

    async def run(self) -> None:
        """Publish for ever. While the log is away, the oldest batch is retried and records gather behind it."""
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._waiting:
                    await self._publish(self._waiting[:BATCH])
        finally:
            self._stopped = True
            self._acknowledged.set()

    async def _publish(self, batch: list[Outgoing]) -> None:
        try:
            await self._log.publish(batch)
        except ServerUnavailable as error:
            log.warning(
                "taskgroup worker: cannot publish %d of %d reports, retrying in %g s: %s",
                len(batch),
                len(self._waiting),
                RETRY_SECONDS,
                error,
            )
            await asyncio.sleep(RETRY_SECONDS)
            return
        del self._waiting[: len(batch)]
        self._published += len(batch)
        self._acknowledged.set()
