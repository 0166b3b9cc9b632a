"""What a worker has to tell the owners, in order: published in batches, and again until the log has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from anabranch.core.errors import ServerUnavailable
from anabranch.ports import EventLog, Outgoing

log = logging.getLogger(__name__)

BATCH = 1_000
RETRY_SECONDS = 0.2


class Outbox:
    """Records on their way to the log."""

    def __init__(self, eventlog: EventLog) -> None:
        self._log = eventlog
        self._waiting: list[Outgoing] = []
        self._queued = self._published = 0
        self._outgoing = asyncio.Event()
        self._sent = asyncio.Event()
        self._stopped = False

    def send(self, records: Iterable[Outgoing]) -> None:
        """Have records published after those that were sent before."""
        known = len(self._waiting)
        self._waiting += records
        self._queued += len(self._waiting) - known
        self._outgoing.set()

    async def published(self) -> None:
        """Return once all that was sent until now is on the log, or nobody publishes it any more."""
        mark = self._queued
        while self._published < mark and not self._stopped:
            self._sent.clear()
            self._outgoing.set()
            await self._sent.wait()

    async def run(self) -> None:
        """Publish what has gathered, for ever; what the log does not take yet is sent again."""
        try:
            while True:
                await self._outgoing.wait()
                self._outgoing.clear()
                while self._waiting:
                    await self._publish(self._waiting[:BATCH])
        finally:
            self._stopped = True
            self._sent.set()

    async def _publish(self, batch: list[Outgoing]) -> None:
        try:
            await self._log.publish(batch)
        except ServerUnavailable as error:
            log.warning("reports wait: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
            return
        del self._waiting[: len(batch)]
        self._published += len(batch)
        self._sent.set()
