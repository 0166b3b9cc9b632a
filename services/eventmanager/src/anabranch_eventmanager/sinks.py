"""The event manager's way out: views to Redis, events to channels, nudges and dead letters to the log.

Each waits in a bounded queue of its own and is written in batches. A server that is away costs freshness,
never the process: views stay marked and are written later, the oldest messages of a full queue are dropped
and counted. Decides nothing about runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names
from anabranch.ports import Clock, EventLog, Notifier, Outgoing, StateStore, Write
from anabranch_eventmanager.projection.decisions import has_ended
from anabranch_eventmanager.projection.documents import Document, Facts, run_key
from anabranch_eventmanager.projection.nudges import LONGEST_WAIT
from anabranch_eventmanager.projection.retention import ABANDONED_SECONDS
from anabranch_eventmanager.projection.run_views import build_view
from anabranch_eventmanager.projection.subscriptions import Forward

FLUSH_SECONDS = 0.25
"""How long a change that nobody waits for may stay unwritten: the most a busy run's view is written."""
URGENT_SECONDS = 0.02
"""The same of a beginning and an end: many runs that begin and end at once are written together."""

RETRY_SECONDS = 1.0
BATCH = 100
QUEUE_LIMIT = 50_000
LISTED_RUNS = 10_000

_log = logging.getLogger("anabranch.eventmanager")


class Queue:
    """Messages waiting for `send`, which takes a batch. Full: the oldest goes, counted in `dropped`."""

    def __init__(self, what: str, send: Callable[[list[Any]], Awaitable[Any]]) -> None:
        self._what = what
        self._send = send
        self._waiting: deque[Any] = deque()
        self._filled = asyncio.Event()
        self.dropped = 0

    def put(self, message: Any) -> None:
        """Queue one message."""
        if len(self._waiting) >= QUEUE_LIMIT:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(message)
        self._filled.set()

    async def run(self) -> None:
        """Send until cancelled; what cannot be sent now is sent later."""
        while True:
            await self._filled.wait()
            try:
                await self.flush()
            except (ServerUnavailable, StoreRefused) as error:
                _log.warning("%s wait, %d of them: %s", self._what, len(self._waiting), error)
                await asyncio.sleep(RETRY_SECONDS)

    async def flush(self) -> None:
        """Send what waits now. Raises what `send` raises; the rest then stays queued."""
        self._filled.clear()
        while self._waiting:
            batch = list(islice(self._waiting, BATCH))
            for _ in batch:
                self._waiting.popleft()
            try:
                await self._send(batch)
            except BaseException:
                self._waiting.extendleft(reversed(batch))
                self._filled.set()
                raise


class ViewWriter:
    """Writes the views of changed runs, each at most some times a second.

    `facts_of` gives a partition's facts, None where it is not ours any more; `written` is told of each view
    that stands in Redis.
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
        self.facts_of: Callable[[int], Facts | None] = lambda _: None
        self.written: Callable[[int, str, int], None] = lambda _number, _run, _offset: None
        self.unhealthy_reason = ""
        """Why views are not written at the moment; empty where they are."""

    def mark(self, partition: int, run_id: str, *, urgent: bool) -> None:
        """A run's facts have changed."""
        self._changed[run_id] = partition
        if self._timer is not None and urgent and not self._is_urgent:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            delay = URGENT_SECONDS if urgent else FLUSH_SECONDS
            self._timer = asyncio.get_running_loop().call_later(delay, self._time_out)
            self._is_urgent = urgent

    def drop(self, run_id: str) -> None:
        """A run is not listed any more; its view expires by itself."""
        self._dropped.append(run_id)
        self._due.set()

    def forget(self) -> None:
        """The store has nothing any more of what was written."""
        self._listed.clear()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._due.wait()
            try:
                await self.flush()
            except (ServerUnavailable, StoreRefused) as error:
                _log.warning("views of %d runs wait: %s", len(self._changed), error)
                self.unhealthy_reason = str(error)
                self._due.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def flush(self) -> None:
        """Write what has changed by now. Raises what the store raises; what is not written stays marked."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for batch in list(_batches(list(self._changed.items()))):
            await self._write(batch)
        if self._dropped:
            gone, self._dropped = self._dropped, []
            await self._store.index_remove(self._names.run_list, gone)
        self.unhealthy_reason = ""

    async def _write(self, batch: list[tuple[str, int]]) -> None:
        for run_id, _ in batch:
            self._changed.pop(run_id, None)
        try:
            runs = [
                (number, facts, facts[run_key(run_id)])
                for run_id, number in batch
                if (facts := self.facts_of(number)) is not None and run_key(run_id) in facts
            ]
            await self._store.put([write for _, facts, run in runs for write in self._writes(facts, run)])
            for number, _, run in runs:
                await self._list(run)
                self.written(number, run["run_id"], run["offset"])
        except BaseException:
            for run_id, number in batch:
                self._changed.setdefault(run_id, number)
            raise

    def _writes(self, facts: Facts, run: Document) -> Iterator[Write]:
        session_id, run_id = run["session_id"], run["run_id"]
        ttl = self._ttl(run)
        yield Write(self._names.view(session_id, run_id), dumps(build_view(facts, run_id).to_document()), ttl)
        yield Write(self._names.run_lookup(run_id), session_id.encode(), ttl)

    def _ttl(self, run: Document) -> float:
        if not has_ended(run):
            return ABANDONED_SECONDS
        return max(float(run["ended_at"]) + self._result_ttl - self._clock.now(), 1.0)

    async def _list(self, run: Document) -> None:
        run_id = run["run_id"]
        if run_id not in self._listed:
            score = run["submitted_at"] or run["last_fact_at"]
            await self._store.index_add(
                self._names.run_list, run_id, score, keep=LISTED_RUNS, ttl=ABANDONED_SECONDS
            )
            self._listed.add(run_id)
        if has_ended(run):
            self._listed.discard(run_id)

    def _time_out(self) -> None:
        self._timer = None
        self._due.set()


class ServerSinks:
    """The `keeper.Outlets` on the ports."""

    def __init__(
        self, log: EventLog, store: StateStore, notifier: Notifier, names: Names, views: ViewWriter
    ) -> None:
        self._log = log
        self._store = store
        self._names = names
        self.views = views
        self.nudges = Queue("nudges", self._send_nudges)
        self.messages = Queue("events to forward", notifier.publish)
        self.records = Queue("dead letters", log.publish)

    def forward(self, message: Forward) -> None:
        """See `keeper.Outlets`."""
        self.messages.put((message.channel, message.payload))

    def view_changed(self, partition: int, run_id: str, *, urgent: bool) -> None:
        """See `keeper.Outlets`."""
        self.views.mark(partition, run_id, urgent=urgent)

    def view_dropped(self, run_id: str) -> None:
        """See `keeper.Outlets`."""
        self.views.drop(run_id)

    def publish(self, record: Outgoing) -> None:
        """See `keeper.Outlets`."""
        self.records.put(record)

    def nudge(self, record: Outgoing, workers: Sequence[str], silent_for: float) -> None:
        """See `keeper.Outlets`."""
        self.nudges.put((record, tuple(workers), silent_for))

    async def _send_nudges(self, batch: list[tuple[Outgoing, tuple[str, ...], float]]) -> None:
        workers = sorted({worker for _, each, _ in batch for worker in each})
        signs = await self._store.get([self._names.worker(worker) for worker in workers]) if workers else []
        alive = {worker for worker, sign in zip(workers, signs, strict=True) if sign is not None}
        due = [record for record, each, silent in batch if silent >= LONGEST_WAIT or not alive & set(each)]
        if due:
            _log.info("%d runs have been silent for long: nudging their owners", len(due))
            await self._log.publish(due)

    async def flush(self) -> None:
        """Write all that waits now; what cannot be written is logged and left."""
        for each in (self.records.flush, self.nudges.flush, self.views.flush, self.messages.flush):
            try:
                await each()
            except (ServerUnavailable, StoreRefused) as error:
                _log.warning("not everything was written before the end: %s", error)


def _batches(items: list[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
