"""Waits for many runs at once: one reader over the results topic, dispatching by run, for each client.

The topic is the way that news comes; the store is asked where it may have been missed: when a run is first
watched, when the reader had to be opened again, and where a run was silent for long. Resolves no references
and decides nothing about what a status means.
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
REOPEN_SECONDS = 1.0
KEPT_RESULTS = 10_000
"""Published results kept for a run that nobody iterates; what is dropped stands in the final record."""

FINAL_TYPES = frozenset({"run.completed", "run.failed", "run.cancelled", "run.timed_out"})

_log = logging.getLogger("anabranch.client")


class RunWatch:
    """State of one run in a client. `final` becomes the body of its final record or of its rejection.

    `body_hash` is the hash of the sent request, which separates its records from those of another request with the
    same id; None for a run that another client submitted. `project` is the run's, None where it is not known.
    """

    def __init__(
        self, run_id: str, request_id: str | None, body_hash: str | None, now: float, project: str | None = None
    ) -> None:
        self.project = project
        self.run_id = run_id
        self.request_id = request_id
        self.body_hash = body_hash
        self.heard_at = now
        self.heard = False
        self.final: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._published: deque[Body] = deque(maxlen=KEPT_RESULTS)
        self._news = asyncio.Event()
        self._seen: set[str] = set()

    def settle(self, body: Body) -> None:
        """Take the final word; a repeated one changes nothing."""
        self.heard = True
        if not self.final.done():
            self.final.set_result(body)
        self._news.set()

    def fail(self, error: BaseException) -> None:
        """Nothing more will be heard."""
        if not self.final.done():
            self.final.set_exception(error)
            self.final.exception()  # whoever waits still gets it; nobody waiting is no error of its own
        self._news.set()

    def publish(self, event_id: str, body: Body) -> None:
        """Take a published result; delivery is at least once, so repeats are dropped."""
        if event_id not in self._seen:
            self._seen.add(event_id)
            self._published.append(body)
            self._news.set()

    async def published(self) -> AsyncGenerator[Body, None]:
        """Results as they are published, each once, up to the final record."""
        while True:
            self._news.clear()
            while self._published:
                yield self._published.popleft()
            if self.final.done():
                return
            await self._news.wait()


class ResultsWatcher:
    """Reads the results topic for the runs that somebody still waits for. Start it before the first submit."""

    def __init__(self, log: EventLog, store: StateStore, names: Names, clock: Clock) -> None:
        self._log = log
        self._store = store
        self._names = names
        self._clock = clock
        self._watches: dict[str, WeakSet[RunWatch]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._checks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the reader; returns when it misses nothing that is published from now on.

        Raises:
            ServerUnavailable: the log cannot be reached.
        """
        if self._reading is None:
            opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._reading = asyncio.create_task(self._read(opened), name="results-reader")
            self._asking = asyncio.create_task(self._ask_after_silence(), name="results-poll")
            await opened

    async def close(self) -> None:
        """Stop reading; whoever still waits is cancelled."""
        tasks = [task for task in (self._reading, self._asking, *self._checks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watch in self._all():
            watch.final.cancel()

    async def watch(
        self, run_id: str, request_id: str | None, body_hash: str | None, project: str | None = None
    ) -> RunWatch:
        """Watch a run, which is settled at once where it has ended before.

        Raises:
            ServerUnavailable: the store cannot be reached.
        """
        watch = RunWatch(run_id, request_id, body_hash, self._clock.monotonic(), project)
        for each in {run_id, request_id or run_id}:
            self._watches.setdefault(each, WeakSet()).add(watch)
        await self._ask([watch])
        return watch

    def forget(self, watch: RunWatch) -> None:
        """Nobody waits for this one any more."""
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
                await self._read_on(opened)
            except ServerUnavailable as error:
                if not opened.done():
                    opened.set_exception(error)
                    return
                _log.warning("the results topic is away, reading again: %s", error)
            except Exception as error:
                self._give_up(opened, error)
                raise
            await asyncio.sleep(REOPEN_SECONDS)

    async def _read_on(self, opened: asyncio.Future[None]) -> None:
        async with self._log.read(self._names.results) as reader:
            if opened.done():
                await self._ask(self._all())
            else:
                opened.set_result(None)
            async for batch in reader:
                for record in batch:
                    self._dispatch(record)

    def _give_up(self, opened: asyncio.Future[None], error: Exception) -> None:
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
            _log.warning("the record at %s is not the body of a result: the client skips it", place)
            return
        headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
        for watch in list(watches):
            watch.heard_at = self._clock.monotonic()
            watch.heard = True
            self._tell(watch, headers.get("ce_type", ""), headers.get("ce_id", ""), body)

    def _tell(self, watch: RunWatch, kind: str, event_id: str, body: Body) -> None:
        if kind == "result.published":
            watch.publish(event_id, body)
        elif kind in FINAL_TYPES:
            self._check(self._settle_if_own(watch, body))
        elif kind == "run.rejected":
            self._check(self._reject_if_own(watch, body))

    def _check(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _settle_if_own(self, watch: RunWatch, body: Body) -> None:
        stored = await self._stored_or_none(watch)
        if watch.body_hash is None or stored is None or not has_other_body(stored.body_hash, watch.body_hash):
            watch.settle(body)

    async def _reject_if_own(self, watch: RunWatch, body: Body) -> None:
        """True if a rejection concerns this request. All requests with one id get it, also those of other
        projects; the admitted one is meant only if the Agency met an internal error."""
        if watch.project is not None and body.get("project") not in (None, watch.project):
            return
        codes = {error.get("code") for error in body.get("errors", ()) if isinstance(error, dict)}
        if Code.REQUEST_ID_CONFLICT in codes and watch.body_hash is None:
            return
        stored = None if Code.INTERNAL in codes else await self._stored_or_none(watch)
        if stored is None or watch.body_hash not in (None, stored.body_hash):
            watch.settle(body)

    # asking the store ---------------------------------------------------------------------------------

    async def _ask_after_silence(self) -> None:
        while True:
            await asyncio.sleep(SILENCE_SECONDS)
            limit = self._clock.monotonic() - SILENCE_SECONDS
            silent = [watch for watch in self._all() if not watch.final.done() and watch.heard_at <= limit]
            try:
                await self._ask(silent)
            except ServerUnavailable as error:
                _log.warning("the store is away, asking again: %s", error)
            self._watches = {key: watches for key, watches in self._watches.items() if watches}

    async def _ask(self, watches: Iterable[RunWatch]) -> None:
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
            _log.warning("the store is away, the results topic is believed: %s", error)
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
