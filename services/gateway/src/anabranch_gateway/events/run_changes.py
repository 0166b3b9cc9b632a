"""Publishes which runs have changed, for live lists of runs: at most two messages a second for each run.

The name, project and status of a run are projected from its events. For a run whose first events this process has
not read, name and project are loaded from its record in the store. A listener queues only the latest message of
each run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from anabranch.core.bounded import BoundedDict
from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.core.event_sources import is_of_run
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.runtime.reading.run_records import load_run_records
from anabranch.sdk.client import Client
from anabranch_gateway.events.broadcaster import EventBroadcaster, EventRecord

PUBLISH_SECONDS = 0.5
CACHE_SIZE = 50_000
"""Maximum runs whose state is cached, and maximum messages in the queue of one listener."""
SILENCE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class RunState:
    """The fields of a run that a list of runs shows."""

    run_id: str
    status: str = "accepted"
    project: str = DEFAULT_PROJECT
    name: str | None = None
    is_known: bool = False
    """True if project and name are known."""

    def after(self, entry: EventEntry) -> RunState:
        """The state after an event."""
        kind, _, action = entry.type.partition(".")
        if entry.type == "run.accepted":
            project = str(entry.data.get("project") or DEFAULT_PROJECT)
            return replace(self, project=project, name=entry.data.get("name"), is_known=True)
        if kind != "run" or action == "started":
            return replace(self, status="running") if self.status in ("accepted", "scheduled", "queued") else self
        if action in ("paused", "resumed"):
            return replace(self, status="running") if self.status == "accepted" else self
        return replace(self, status=action)

    def to_message(self) -> dict[str, Any]:
        """The data of a `run.changed` message."""
        return {"run_id": self.run_id, "status": self.status, "project": self.project, "name": self.name}


@dataclass(eq=False, slots=True)
class ChangeListener:
    """Queue of one listener: the latest state of each run that changed since the last `take`."""

    pending: BoundedDict[str, RunState] = field(default_factory=lambda: BoundedDict(CACHE_SIZE))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def take(self) -> list[RunState]:
        """The changed runs; empty after `SILENCE_SECONDS` without a change, or when the listener is closed."""
        if not self.pending and not self.closed:
            self.changed.clear()
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    await self.changed.wait()
            except TimeoutError:
                return []
        taken = list(self.pending.values())
        self.pending.clear()
        return taken


class RunChanges:
    """Projects the states of runs from their events and publishes the changes to listeners."""

    def __init__(self, broadcaster: EventBroadcaster, client: Client) -> None:
        self._broadcaster = broadcaster
        self._client = client
        self._changed: set[str] = set()
        self._states: BoundedDict[str, RunState] = BoundedDict(
            CACHE_SIZE, evicted=lambda run_id, _: self._changed.discard(run_id)
        )
        self._listeners: set[ChangeListener] = set()

    async def run(self) -> None:
        """Read events and publish changes until cancelled."""
        while True:
            with self._broadcaster.follow_all() as listener:
                while not listener.dropped:
                    for record in await listener.take(SILENCE_SECONDS):
                        self._apply(record)
                    # All changes of half a second are published together, however many events cause them.
                    if self._changed:
                        await self._publish()
                        await asyncio.sleep(PUBLISH_SECONDS)
            await asyncio.sleep(PUBLISH_SECONDS)

    @contextmanager
    def listen(self) -> Iterator[ChangeListener]:
        """Listen to changes from now on."""
        listener = ChangeListener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def close_listeners(self) -> None:
        """End all streams, because the process stops."""
        for listener in self._listeners:
            listener.closed = True
            listener.changed.set()

    def _apply(self, record: EventRecord) -> None:
        batch: EventBatch | None = record.batch
        if batch is None or not is_of_run(batch.run_id):
            return
        state = self._states.get(batch.run_id) or RunState(batch.run_id)
        for entry in batch.entries:
            state = state.after(entry)
        self._states[batch.run_id] = state
        self._changed.add(batch.run_id)

    async def _publish(self) -> None:
        changed, self._changed = self._changed, set()
        if not self._listeners:
            return
        # No state is evicted during this await, because only this task adds states.
        await self._load_unknown([run_id for run_id in changed if not self._states[run_id].is_known])
        for listener in self._listeners:
            listener.pending.update({run_id: self._states[run_id] for run_id in changed})
            listener.changed.set()

    async def _load_unknown(self, run_ids: list[str]) -> None:
        """Load project and name of runs that were accepted before this process read their events."""
        if not run_ids:
            return
        try:
            records = await load_run_records(self._client.store, self._client.names, run_ids)
        except (ServerUnavailable, StoreRefused):
            # Callers of one project must not see a run whose project is unknown. The next event tries again.
            records = [None] * len(run_ids)
        for run_id, record in zip(run_ids, records, strict=True):
            if record is not None:
                self._states[run_id] = replace(
                    self._states[run_id], project=record.project, name=record.name, is_known=True
                )
