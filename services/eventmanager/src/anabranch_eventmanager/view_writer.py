"""Writes the views of changed runs to the store, and the list of recent runs.

While the store is unavailable changed views stay marked, and are written later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names
from anabranch.ports import Clock, StateStore, Write
from anabranch_eventmanager.projection.decisions import has_ended
from anabranch_eventmanager.projection.documents import Document, Documents, run_key
from anabranch_eventmanager.projection.retention import ABANDONED_SECONDS
from anabranch_eventmanager.projection.run_views import build_view

WINDOW_SECONDS = 0.25
"""Seconds in which changes are collected: the view of an open run is written at most this often."""
WINDOW_SHARE = 10
"""A window is at least this many times as long as it took to build the last views, so that views of thousands of
tasks are written less often."""
QUICK_SECONDS = 0.02
QUICK_FLUSHES = 2
"""In a window, this many flushes happen QUICK_SECONDS after a change instead of at the window's end. So the start
and end of a single run are shown at once, and with many runs each flush writes the views of several."""

RETRY_SECONDS = 1.0
BATCH = 100
LISTED_RUNS = 10_000
"""Maximum runs in the sorted set of recent runs; the oldest are dropped from it."""

_log = logging.getLogger("anabranch.eventmanager")


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
        self._urgent: set[str] = set()
        self._listed: set[str] = set()
        self._dropped: list[str] = []
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_quick = False
        self._quick_left = 0
        self._window_ends_at = 0.0
        self._building_seconds = 0.0
        self.documents_of: Callable[[int], Documents | None] = lambda _: None
        self.written: Callable[[int, str, int], None] = lambda _number, _run, _offset: None
        self.unhealthy_reason = ""

    def mark_changed(self, partition: int, run_id: str, *, urgent: bool) -> None:
        """The document of a run has changed: write its view soon, or at once if `urgent` or if no view has changed
        for a while."""
        self._changed[run_id] = partition
        now = asyncio.get_running_loop().time()
        if self._timer is None and now >= self._window_ends_at:
            self._begin_window(now)
            urgent = True
        if urgent:
            self._urgent.add(run_id)
        if urgent and self._quick_left and not self._is_quick:
            self._quick_left -= 1
            self._is_quick = True
            self._flush_at(now + QUICK_SECONDS)
        elif self._timer is None:
            self._flush_at(self._window_ends_at)

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
                await (self._flush_urgent() if self._is_quick else self.flush())
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
        self._begin_window(asyncio.get_running_loop().time())
        self._building_seconds = await self._write(list(self._changed))
        if self._dropped:
            gone = list(self._dropped)
            await self._store.index_remove(self._names.run_list, gone)
            del self._dropped[: len(gone)]

    async def _flush_urgent(self) -> None:
        self._stop_timer()
        await self._write([run_id for run_id in self._urgent if run_id in self._changed])
        if self._changed and self._timer is None:
            self._flush_at(self._window_ends_at)

    async def _write(self, run_ids: Sequence[str]) -> float:
        """Write the views of these runs. Returns the seconds that it took to build them."""
        self._urgent.difference_update(run_ids)
        seconds = 0.0
        # Taken before the writes: a change during a write marks its run again.
        marked = {run_id: self._changed.pop(run_id) for run_id in run_ids}
        while marked:
            batch = dict(list(marked.items())[:BATCH])
            try:
                seconds += await self._write_batch(batch)
            except BaseException:
                self._changed = marked | self._changed
                raise
            for run_id in batch:
                del marked[run_id]
        self.unhealthy_reason = ""
        return seconds

    async def _write_batch(self, partitions: dict[str, int]) -> float:
        runs = list(self._documents(partitions))
        began = asyncio.get_running_loop().time()
        views = [write for _, run in runs for write in self._writes(run)]
        seconds = asyncio.get_running_loop().time() - began
        unlisted = {run["run_id"]: run for _, run in runs if run["run_id"] not in self._listed}
        # Both in one round trip.
        await asyncio.gather(self._store.put(views), self._list(unlisted))
        for number, run in runs:
            if has_ended(run):
                self._listed.discard(run["run_id"])
            self.written(number, run["run_id"], run["offset"])
        return seconds

    def _documents(self, partitions: dict[str, int]) -> Iterator[tuple[int, Document]]:
        """Each run's partition and document; a run whose partition was revoked or that was dropped is omitted."""
        for run_id, number in partitions.items():
            documents = self.documents_of(number)
            run = documents.get(run_key(run_id)) if documents is not None else None
            if run is not None:
                yield number, run

    def _writes(self, run: Document) -> Iterator[Write]:
        session_id, run_id = run["session_id"], run["run_id"]
        ttl = self._ttl(run)
        yield Write(self._names.view(session_id, run_id), dumps(build_view(run).to_document()), ttl)
        yield Write(self._names.run_lookup(run_id), session_id.encode(), ttl)

    def _ttl(self, run: Document) -> float:
        if not has_ended(run):
            return ABANDONED_SECONDS
        return max(float(run["ended_at"]) + self._result_ttl - self._clock.now(), 1.0)

    async def _list(self, runs: dict[str, Document]) -> None:
        """Add runs to the list of recent runs: once each, because the score of a run never changes."""
        if not runs:
            return
        scores = {run_id: run["submitted_at"] or run["last_fact_at"] for run_id, run in runs.items()}
        await self._store.index_add(self._names.run_list, scores, keep=LISTED_RUNS, ttl=ABANDONED_SECONDS)
        self._listed.update(runs)

    def _begin_window(self, now: float) -> None:
        self._stop_timer()
        self._window_ends_at = now + max(WINDOW_SECONDS, WINDOW_SHARE * self._building_seconds)
        self._quick_left = QUICK_FLUSHES

    def _flush_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._due.set)

    def _stop_timer(self) -> None:
        self._is_quick = False
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
