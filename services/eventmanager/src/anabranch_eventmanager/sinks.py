"""The outputs of the event manager: views to Redis, events to channels, nudges and dead letters to the log.

Each output has a bounded queue and is written in batches. While a server is unavailable changed views stay
marked and are written later; of a full queue the oldest messages are dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names
from anabranch.ports import Clock, EventLog, Notifier, Outgoing, StateStore, Write
from anabranch.runtime.outbound_queue import OutboundQueue
from anabranch_eventmanager.projection.decisions import has_ended
from anabranch_eventmanager.projection.documents import Document, Documents, run_key
from anabranch_eventmanager.projection.nudges import MAX_WAIT
from anabranch_eventmanager.projection.retention import ABANDONED_SECONDS
from anabranch_eventmanager.projection.run_views import build_view
from anabranch_eventmanager.projection.subscriptions import Forward

FLUSH_SECONDS = 0.25
"""Seconds in which the changes of views are collected: the view of a busy run is written at most this often."""
URGENT_SECONDS = 0.02
"""The same after the start or end of a run: the views of many runs that start or end together share a batch."""

RETRY_SECONDS = 1.0
BATCH = 100
QUEUE_LIMIT = 50_000
LISTED_RUNS = 10_000
"""Maximum runs in the sorted set of recent runs; the oldest are dropped from it."""

_log = logging.getLogger("anabranch.eventmanager")


def _output(what: str, send: Callable[[Sequence[Any]], Awaitable[Any]]) -> OutboundQueue[Any]:
    return OutboundQueue(what, send, limit=QUEUE_LIMIT, batch=BATCH, delay=RETRY_SECONDS, overflow="drop oldest")


class ViewWriter:
    """Writes the views of changed runs, each at most a few times a second.

    Attributes:
        documents_of: returns the documents of a partition; None if the partition was revoked.
        written: called with partition, run id and offset after a view was stored.
        unhealthy_reason: why views cannot be written at the moment; empty if they can.
    """

    def __init__(self, store: StateStore, names: Names, clock: Clock, result_ttl: float) -> None:
        self._store = store
        self._names = names
        self._clock = clock
        self._result_ttl = result_ttl
        self._changed: dict[str, int] = {}
        self._listed: set[str] = set()
        self._dropped: list[str] = []
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_urgent = False
        self.documents_of: Callable[[int], Documents | None] = lambda _: None
        self.written: Callable[[int, str, int], None] = lambda _number, _run, _offset: None
        self.unhealthy_reason = ""

    def mark_changed(self, partition: int, run_id: str, *, urgent: bool) -> None:
        """The documents of a run have changed: write its view soon, or at once if `urgent`."""
        self._changed[run_id] = partition
        # An urgent change replaces a pending slow timer; all changes until the timer fires share its batches.
        if self._timer is not None and urgent and not self._is_urgent:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            delay = URGENT_SECONDS if urgent else FLUSH_SECONDS
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)
            self._is_urgent = urgent

    def drop(self, run_id: str) -> None:
        """Remove a run from the list of recent runs; its view expires by itself."""
        self._dropped.append(run_id)
        self._due.set()

    def relist_all(self) -> None:
        """List each run again when its view is written next, because the store has lost the list."""
        self._listed.clear()

    async def run(self) -> None:
        """Write changed views until cancelled."""
        while True:
            await self._due.wait()
            try:
                await self.flush()
            except (ServerUnavailable, StoreRefused) as error:
                _log.warning(
                    "the event manager cannot write the views of %d runs, retrying in %g s: %s",
                    len(self._changed),
                    RETRY_SECONDS,
                    error,
                )
                self.unhealthy_reason = str(error)
                self._due.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def flush(self) -> None:
        """Write all changed views. Raises what the store raises; unwritten views then stay marked."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Copied first: changes that arrive during the writes are left for the next flush.
        for batch in list(_batches(list(self._changed.items()))):
            await self._write(batch)
        if self._dropped:
            gone, self._dropped = self._dropped, []
            await self._store.index_remove(self._names.run_list, gone)
        self.unhealthy_reason = ""

    async def _write(self, batch: list[tuple[str, int]]) -> None:
        for run_id, _ in batch:
            # Before the write: a change during the write marks the run again.
            self._changed.pop(run_id, None)
        try:
            runs = [
                (number, documents, documents[run_key(run_id)])
                for run_id, number in batch
                if (documents := self.documents_of(number)) is not None and run_key(run_id) in documents
            ]
            await self._store.put([write for _, documents, run in runs for write in self._writes(documents, run)])
            for number, _, run in runs:
                await self._list(run)
                self.written(number, run["run_id"], run["offset"])
        except BaseException:
            for run_id, number in batch:
                self._changed.setdefault(run_id, number)
            raise

    def _writes(self, documents: Documents, run: Document) -> Iterator[Write]:
        session_id, run_id = run["session_id"], run["run_id"]
        ttl = self._ttl(run)
        yield Write(self._names.view(session_id, run_id), dumps(build_view(documents, run_id).to_document()), ttl)
        yield Write(self._names.run_lookup(run_id), session_id.encode(), ttl)

    def _ttl(self, run: Document) -> float:
        if not has_ended(run):
            return ABANDONED_SECONDS
        return max(float(run["ended_at"]) + self._result_ttl - self._clock.now(), 1.0)

    async def _list(self, run: Document) -> None:
        run_id = run["run_id"]
        # Once for each run, because its score never changes and each addition costs a round trip.
        if run_id not in self._listed:
            score = run["submitted_at"] or run["last_fact_at"]
            await self._store.index_add(
                self._names.run_list, run_id, score, keep=LISTED_RUNS, ttl=ABANDONED_SECONDS
            )
            self._listed.add(run_id)
        if has_ended(run):
            self._listed.discard(run_id)

    def _on_timer(self) -> None:
        self._timer = None
        self._due.set()


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


def _batches(items: list[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
