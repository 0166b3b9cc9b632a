"""Watches the runs of a client: one reader of the results topic that dispatches records to runs.

The topic is the primary source. The store is read when a record may have been missed: when a watch begins, when
the reader was opened again, and when a run has been silent for SILENCE_SECONDS. References are not resolved here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from typing import Any
from weakref import WeakSet

import orjson

from anabranch.core.errors import Code, ServerUnavailable
from anabranch.core.names import Names
from anabranch.core.request.request_hash import has_other_body
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import Clock, EventLog, Incoming, StateStore
from anabranch.runtime.reading.run_records import load_run_records

Body = dict[str, Any]

SILENCE_SECONDS = 15.0
"""Seconds without a record of a run after which the store is read."""
REOPEN_SECONDS = 1.0
"""Seconds before a failed reader is opened again."""
MAX_RESULTS = 10_000
"""Maximum number of published results in a run's buffer. Older ones are dropped; the final record has them,
too."""

FINAL_TYPES = frozenset({"run.completed", "run.failed", "run.cancelled", "run.timed_out"})

_log = logging.getLogger("anabranch.client")


class RunWatch:
    """State of one run in a client.

    Attributes:
        final: future of the body of the run's final record or rejection.
        body_hash: hash of the published request, which tells its records from those of another request with the
            same id; None for a run that another client submitted.
        project: the run's project; None if not known.
        acknowledged: True once a record of the run has arrived.
        last_record_at: when the last one arrived (monotonic clock).
    """

    def __init__(
        self, run_id: str, request_id: str | None, body_hash: str | None, now: float, project: str | None = None
    ) -> None:
        self.project = project
        self.run_id = run_id
        self.request_id = request_id
        self.body_hash = body_hash
        self.last_record_at = now
        self.acknowledged = False
        self.final: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._published: deque[Body] = deque(maxlen=MAX_RESULTS)
        self._changed = asyncio.Event()
        self._seen: set[str] = set()

    def settle(self, body: Body) -> None:
        """Set the final record. A repetition changes nothing."""
        self.acknowledged = True
        if not self.final.done():
            self.final.set_result(body)
        self._changed.set()

    def fail(self, error: BaseException) -> None:
        """Fail the future of the final record: the reader has stopped for good."""
        if not self.final.done():
            self.final.set_exception(error)
            self.final.exception()  # marks it as retrieved: without a waiter, asyncio would log an error
        self._changed.set()

    def add_result(self, event_id: str, body: Body) -> None:
        """Add a published result. Delivery is at least once, so repetitions are dropped."""
        if event_id not in self._seen:
            self._seen.add(event_id)
            self._published.append(body)
            self._changed.set()

    async def published(self) -> AsyncGenerator[Body, None]:
        """Yield each result once, as it is published, up to the final record."""
        while True:
            # Cleared before the buffer is drained: a result that is added meanwhile sets the event again.
            self._changed.clear()
            while self._published:
                yield self._published.popleft()
            if self.final.done():
                return
            await self._changed.wait()


class ResultsWatcher:
    """Reads the results topic for a client's runs. Start it before the first submit.

    Watches are held by weak references: a run that the caller no longer holds costs nothing.
    """

    def __init__(self, log: EventLog, store: StateStore, names: Names, clock: Clock) -> None:
        self._log = log
        self._store = store
        self._names = names
        self._clock = clock
        self._watches: dict[str, WeakSet[RunWatch]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[None] | None = None
        self._checks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the reader. Returns once it receives every record that is published from now on.

        Raises:
            ServerUnavailable: the log cannot be reached.
        """
        if self._reading is None:
            opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._reading = asyncio.create_task(self._read(opened), name="results-reader")
            self._polling = asyncio.create_task(self._poll_silent_runs(), name="results-poll")
            await opened

    async def close(self) -> None:
        """Stop reading, and cancel the futures of open runs."""
        tasks = [task for task in (self._reading, self._polling, *self._checks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watch in self._all():
            watch.final.cancel()

    async def watch(
        self, run_id: str, request_id: str | None, body_hash: str | None, project: str | None = None
    ) -> RunWatch:
        """Watch a run. If it has already ended, its final record is set before this returns.

        Raises:
            ServerUnavailable: the store cannot be reached.
        """
        watch = RunWatch(run_id, request_id, body_hash, self._clock.monotonic(), project)
        # By request id, too, which is the key of a rejection. Registered before the store is read: the topic
        # delivers a final record that is written in between.
        for each in {run_id, request_id or run_id}:
            self._watches.setdefault(each, WeakSet()).add(watch)
        await self._read_store([watch])
        return watch

    def forget(self, watch: RunWatch) -> None:
        """Stop watching a run."""
        for each in {watch.run_id, watch.request_id or watch.run_id}:
            watches = self._watches.get(each)
            if watches is not None:
                watches.discard(watch)
                if not watches:
                    del self._watches[each]

    def _all(self) -> set[RunWatch]:
        return {watch for watches in self._watches.values() for watch in watches}

    # reading ------------------------------------------------------------------------------------------

    async def _read(self, opened: asyncio.Future[None]) -> None:
        while True:
            try:
                await self._read_records(opened)
            except ServerUnavailable as error:
                if not opened.done():
                    opened.set_exception(error)
                    return
                _log.warning("client: cannot read the results topic, retrying in %g s: %s", REOPEN_SECONDS, error)
            except Exception as error:
                self._fail_all(opened, error)
                raise
            await asyncio.sleep(REOPEN_SECONDS)

    async def _read_records(self, opened: asyncio.Future[None]) -> None:
        async with self._log.read(self._names.results) as reader:
            if opened.done():  # opened again: the records since the failure were missed
                await self._read_store(self._all())
            else:
                opened.set_result(None)
            async for batch in reader:
                for record in batch:
                    self._dispatch(record)

    def _fail_all(self, opened: asyncio.Future[None], error: Exception) -> None:
        if not opened.done():
            opened.set_exception(error)
        for watch in self._all():
            watch.fail(error)

    def _dispatch(self, record: Incoming) -> None:
        watches = self._watches.get(record.key.decode("utf-8", "replace")) if record.key else None
        if not watches:
            return
        body = _body(record)
        if body is None:
            place = f"{record.topic}/{record.partition}/{record.offset}"
            _log.warning("client: skips the record at %s, which is not the body of a result", place)
            return
        headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
        for watch in list(watches):
            watch.last_record_at = self._clock.monotonic()
            watch.acknowledged = True
            self._apply(watch, headers.get("ce_type", ""), headers.get("ce_id", ""), body)

    def _apply(self, watch: RunWatch, kind: str, event_id: str, body: Body) -> None:
        if kind == "result.published":
            watch.add_result(event_id, body)
        elif kind in FINAL_TYPES:
            self._check(self._settle_if_own(watch, body))
        elif kind == "run.rejected":
            self._check(self._reject_if_own(watch, body))

    def _check(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._checks.add(task)  # asyncio refers to tasks only weakly
        task.add_done_callback(self._checks.discard)

    async def _settle_if_own(self, watch: RunWatch, body: Body) -> None:
        stored = await self._stored_or_none(watch)
        if watch.body_hash is None or stored is None or not has_other_body(stored.body_hash, watch.body_hash):
            watch.settle(body)

    async def _reject_if_own(self, watch: RunWatch, body: Body) -> None:
        """Settle the watch if a rejection concerns its request.

        All requests with one id receive the rejection, also those of other projects. It concerns the admitted
        request only if the Agency had an internal error.
        """
        if watch.project is not None and body.get("project") not in (None, watch.project):
            return
        codes = {error.get("code") for error in body.get("errors", ()) if isinstance(error, dict)}
        if Code.REQUEST_ID_CONFLICT in codes and watch.body_hash is None:
            return
        stored = None if Code.INTERNAL in codes else await self._stored_or_none(watch)
        if stored is None or watch.body_hash not in (None, stored.body_hash):
            watch.settle(body)

    # reading the store --------------------------------------------------------------------------------

    async def _poll_silent_runs(self) -> None:
        while True:
            await asyncio.sleep(SILENCE_SECONDS)
            limit = self._clock.monotonic() - SILENCE_SECONDS
            silent = [watch for watch in self._all() if not watch.final.done() and watch.last_record_at <= limit]
            try:
                await self._read_store(silent)
            except ServerUnavailable as error:
                _log.warning("client: cannot read the store, retrying in %g s: %s", SILENCE_SECONDS, error)
            # Watches that nobody refers to have vanished from their sets.
            self._watches = {key: watches for key, watches in self._watches.items() if watches}

    async def _read_store(self, watches: Iterable[RunWatch]) -> None:
        waiting = list(watches)
        for watch, stored in zip(waiting, await self._stored(waiting), strict=True):
            if stored is None or stored.final is None:
                continue
            if watch.body_hash in (None, stored.body_hash):
                watch.settle(stored.final)

    async def _stored_or_none(self, watch: RunWatch) -> RunRecord | None:
        try:
            return (await self._stored([watch]))[0]
        except ServerUnavailable as error:
            _log.warning("client: cannot check a record against the store, accepting it: %s", error)
            return None

    async def _stored(self, watches: Sequence[RunWatch]) -> list[RunRecord | None]:
        return await load_run_records(self._store, self._names, [watch.run_id for watch in watches])


def _body(record: Incoming) -> Body | None:
    """The body of a record of the results topic; None for a foreign record."""
    try:
        body = orjson.loads(record.value)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) and isinstance(body.get("status"), str) else None
