"""The outputs of the event manager: views to Redis, events to channels, nudges and dead letters to the log.

Each output but the views (see `view_writer`) has a bounded queue and is written in batches. While a server is
unavailable messages stay queued; of a full queue the oldest ones are dropped and counted.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.core.names import Names
from anabranch.ports import EventLog, Notifier, Outgoing, StateStore
from anabranch.runtime.outbound_queue import OutboundQueue
from anabranch_eventmanager.projection.nudges import MAX_WAIT
from anabranch_eventmanager.projection.subscriptions import Forward
from anabranch_eventmanager.view_writer import ViewWriter

RETRY_SECONDS = 1.0
BATCH = 100
QUEUE_LIMIT = 50_000

_log = logging.getLogger("anabranch.eventmanager")


def _output(what: str, send: Callable[[Sequence[Any]], Awaitable[Any]]) -> OutboundQueue[Any]:
    return OutboundQueue(what, send, limit=QUEUE_LIMIT, batch=BATCH, delay=RETRY_SECONDS, overflow="drop oldest")


class ServerSinks:
    """The `projector.Sinks` on the ports."""

    def __init__(
        self, log: EventLog, store: StateStore, notifier: Notifier, names: Names, views: ViewWriter
    ) -> None:
        self._log = log
        self._store = store
        self._names = names
        self.views = views
        self.nudges = _output("nudges", self._send_nudges)
        self.messages = _output("events to forward", notifier.publish)
        self.records = _output("dead letters", log.publish)

    def forward(self, message: Forward) -> None:
        """See `projector.Sinks`."""
        self.messages.put((message.channel, message.payload))

    async def sent(self) -> None:
        """See `projector.Sinks`."""
        await self.messages.wait_sent()
        await self.records.wait_sent()

    def view_changed(self, partition: int, run_id: str, *, urgent: bool) -> None:
        """See `projector.Sinks`."""
        self.views.mark_changed(partition, run_id, urgent=urgent)

    def view_dropped(self, run_id: str) -> None:
        """See `projector.Sinks`."""
        self.views.drop(run_id)

    def publish(self, record: Outgoing) -> None:
        """See `projector.Sinks`."""
        self.records.put(record)

    def nudge(self, record: Outgoing, workers: Sequence[str], silent_for: float) -> None:
        """See `projector.Sinks`."""
        self.nudges.put((record, tuple(workers), silent_for))

    async def _send_nudges(self, batch: Sequence[tuple[Outgoing, tuple[str, ...], float]]) -> None:
        workers = sorted({worker for _, each, _ in batch for worker in each})
        heartbeats = await self._store.get([self._names.worker(worker) for worker in workers]) if workers else []
        alive = {worker for worker, heartbeat in zip(workers, heartbeats, strict=True) if heartbeat is not None}
        due = [record for record, each, silent in batch if silent >= MAX_WAIT or not alive & set(each)]
        if due:
            _log.info(
                "the event manager nudges the owners of %d runs that have been silent for too long", len(due)
            )
            await self._log.publish(due)

    async def flush(self) -> None:
        """Write all queued output once, as at shutdown; output that cannot be written is logged and dropped."""
        for each in (self.records.flush, self.nudges.flush, self.views.flush, self.messages.flush):
            try:
                await each()
            except (ServerUnavailable, StoreRefused) as error:
                _log.warning("the event manager stops without writing all of its output: %s", error)
