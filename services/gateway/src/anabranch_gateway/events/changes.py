"""Which runs have changed, for lists that are shown live: told at most twice a second for each run.

A run's name, project and status are folded from its events; of a run whose beginning this process has not seen
they are asked of the store once. Each listener keeps one message for a run, the latest.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.runtime.reading.run_records import load_run_records
from anabranch.sdk.client import Client
from anabranch_gateway.events.broadcaster import EventBroadcaster, EventRecord

TELL_SECONDS = 0.5
KEPT = 50_000
"""Runs whose state is remembered, and messages that wait for one listener at most."""
SILENCE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class RunState:
    """What a list shows of a run."""

    run_id: str
    status: str = "accepted"
    project: str = DEFAULT_PROJECT
    name: str | None = None
    is_known: bool = False
    """Whether project and name are."""

    def after(self, entry: EventEntry) -> RunState:
        kind, _, what = entry.type.partition(".")
        if entry.type == "run.accepted":
            project = str(entry.data.get("project") or DEFAULT_PROJECT)
            return replace(self, project=project, name=entry.data.get("name"), is_known=True)
        if kind != "run" or what in ("paused", "resumed"):
            return replace(self, status="running") if self.status == "accepted" else self
        return replace(self, status=what)

    def to_message(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "status": self.status, "project": self.project, "name": self.name}


@dataclass(eq=False, slots=True)
class ChangeListener:
    """One who listens: the latest message of each run that has changed since the last look."""

    waiting: dict[str, RunState] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def take(self) -> list[RunState]:
        """The runs that changed; none after a silence, or at the end."""
        if not self.waiting and not self.closed:
            self.news.clear()
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    await self.news.wait()
            except TimeoutError:
                return []
        taken = list(self.waiting.values())
        self.waiting.clear()
        return taken


class Changes:
    """See the module."""

    def __init__(self, live: EventBroadcaster, client: Client) -> None:
        self._live = live
        self._client = client
        self._states: OrderedDict[str, RunState] = OrderedDict()
        self._changed: set[str] = set()
        self._watchers: set[ChangeListener] = set()

    async def run(self) -> None:
        """Fold and tell until cancelled."""
        while True:
            with self._live.follow_all() as listener:
                while not listener.dropped:
                    for record in await listener.take(SILENCE_SECONDS):
                        self._apply(record)
                    if self._changed:
                        await self._tell()
                        await asyncio.sleep(TELL_SECONDS)
            await asyncio.sleep(TELL_SECONDS)

    @contextmanager
    def watch(self) -> Iterator[ChangeListener]:
        """Somebody who listens from now on."""
        watcher = ChangeListener()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def close_listeners(self) -> None:
        """End every stream: the process stops."""
        for watcher in self._watchers:
            watcher.closed = True
            watcher.news.set()

    def _apply(self, record: EventRecord) -> None:
        batch: EventBatch | None = record.batch
        if batch is None:
            return
        state = self._states.get(batch.run_id) or RunState(batch.run_id)
        for entry in batch.entries:
            state = state.after(entry)
        self._states[batch.run_id] = state
        self._states.move_to_end(batch.run_id)
        self._changed.add(batch.run_id)
        while len(self._states) > KEPT:
            dropped, _ = self._states.popitem(last=False)
            self._changed.discard(dropped)

    async def _tell(self) -> None:
        changed, self._changed = self._changed, set()
        if not self._watchers:
            return
        await self._ask([run_id for run_id in changed if not self._states[run_id].is_known])
        for watcher in self._watchers:
            watcher.waiting.update({run_id: self._states[run_id] for run_id in changed})
            watcher.news.set()
            while len(watcher.waiting) > KEPT:
                del watcher.waiting[next(iter(watcher.waiting))]

    async def _ask(self, run_ids: list[str]) -> None:
        """Project and name of runs that were accepted before this process looked."""
        if not run_ids:
            return
        try:
            records = await load_run_records(self._client.store, self._client.names, run_ids)
        except (ServerUnavailable, StoreRefused):
            # Who does not know whose a run is may not tell of it; it is asked again at its next event.
            records = [None] * len(run_ids)
        for run_id, record in zip(run_ids, records, strict=True):
            if record is not None:
                self._states[run_id] = replace(
                    self._states[run_id], project=record.project, name=record.name, is_known=True
                )
