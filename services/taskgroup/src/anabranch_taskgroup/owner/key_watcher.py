"""Watches keys of sessions that are set outside their runs, and reads them once they are set.

A notification on the key's channel is only a wake-up: the data is read from the store. If no notification arrives,
the keys are polled in one round trip, after 5 s at first and at intervals that double up to a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from anabranch.core.names import session_key
from anabranch.core.telemetry import RECOVERED
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.reading.public_values import PublicValue, classify_value
from anabranch.runtime.until_available import until_available

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0

FIRST_POLL_SECONDS = 5.0
MAX_POLL_SECONDS = 60.0

Key = tuple[str, str]
"""Session id and key."""


@dataclass(frozen=True, slots=True)
class OutsideKey:
    """A key that a run waits for, with its present value."""

    run_id: str
    session_id: str
    key: str
    value: PublicValue


OnFound = Callable[[Sequence[OutsideKey]], Awaitable[None]]
BLOCK_SIZE = 1_000
"""Subscriptions in one round trip."""


@dataclass(slots=True)
class _Waiting:
    runs: set[str] = field(default_factory=set)
    callback: Callable[[bytes | None], None] | None = None


class KeyWatcher:
    """The watcher of one process. Runs that wait for the same key share a subscription."""

    def __init__(self, resources: Resources, on_found: OnFound) -> None:
        self._store = resources.store
        self._names = resources.names
        self._notifier = resources.notifier
        self._telemetry = resources.telemetry
        self._tasks = resources.supervisor.tasks()
        self._on_found = on_found
        self._waiting: dict[Key, _Waiting] = {}
        self._dirty: set[Key] = set()
        self._polled: set[Key] = set()
        """Keys of `_dirty` that are polled without a notification. A value found under one counts as recovered."""
        self._wake = asyncio.Event()
        self._interval = FIRST_POLL_SECONDS

    async def start(self) -> None:
        self._tasks.spawn(self._loop(), "watch keys")

    async def stop(self) -> None:
        await self._tasks.cancel()
        for session_id, key in list(self._waiting):
            await self._unsubscribe((session_id, key))

    async def watch(self, run_id: str, session_id: str, key: str) -> None:
        """Watch a key for a run.

        It is subscribed to first and read afterwards, so that no value is missed: one that is set before the
        subscription is read, one that is set later is notified.
        """
        watched = (session_id, key)
        waiting = self._waiting.get(watched)
        if waiting is None:
            waiting = self._waiting[watched] = _Waiting()
            waiting.callback = partial(self._notified, watched)
            try:
                await self._notifier.subscribe(session_key(session_id, key), waiting.callback)
            except BaseException:
                if not waiting.runs:  # a later watch would take the key for subscribed
                    await self._unsubscribe(watched)
                raise
        waiting.runs.add(run_id)
        self._interval = FIRST_POLL_SECONDS
        self._notified(watched, None)

    async def watch_all(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """Watch each (run id, session id, key), with one round trip for a block of them."""
        left = list(keys)
        for start in range(0, len(left), BLOCK_SIZE):
            await asyncio.gather(*(self.watch(*each) for each in left[start : start + BLOCK_SIZE]))

    async def unwatch_all(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """Stop watching each (run id, session id, key)."""
        await asyncio.gather(*(self.unwatch(*each) for each in keys))

    async def unwatch(self, run_id: str, session_id: str, key: str) -> None:
        waiting = self._waiting.get((session_id, key))
        if waiting is None:
            return
        waiting.runs.discard(run_id)
        if not waiting.runs:
            await self._unsubscribe((session_id, key))

    async def _unsubscribe(self, watched: Key) -> None:
        waiting = self._waiting.pop(watched, None)
        self._dirty.discard(watched)
        self._polled.discard(watched)
        if waiting is not None and waiting.callback is not None:
            await self._notifier.unsubscribe(session_key(*watched), waiting.callback)

    def _notified(self, watched: Key, message: bytes | None) -> None:
        self._dirty.add(watched)
        self._polled.discard(watched)
        self._wake.set()

    async def _loop(self) -> None:
        while True:
            await self._wait()
            # Cleared before the read: a key whose notification arrives during it is read again.
            keys = [watched for watched in self._dirty if watched in self._waiting]
            self._dirty.clear()
            if not keys:
                continue
            await until_available(
                partial(self._read, keys), "read the watched keys of sessions", delay=RETRY_SECONDS
            )

    async def _wait(self) -> None:
        """Wait for a notification, or until all keys are due to be polled."""
        # Cleared before the check, and nothing is awaited in between: no notification is missed.
        self._wake.clear()
        if self._dirty:
            return
        try:
            async with asyncio.timeout(self._interval if self._waiting else None):
                await self._wake.wait()
        except TimeoutError:
            self._interval = min(self._interval * 2, MAX_POLL_SECONDS)
            self._polled.update(self._waiting.keys() - self._dirty)
            self._dirty.update(self._waiting)

    async def _read(self, keys: list[Key]) -> None:
        found = await self._store.get([session_key(*watched) for watched in keys])
        known: list[OutsideKey] = []
        for watched, value in zip(keys, found, strict=True):
            waiting = self._waiting.get(watched)
            is_polled = watched in self._polled
            self._polled.discard(watched)
            # Not set yet, or unwatched during the read.
            if value is None or waiting is None:
                continue
            if is_polled:
                self._telemetry.count(RECOVERED)
            public = await classify_value(self._store, self._names, *watched, value)
            if public is None:  # it has expired since it was read: the key stays watched
                continue
            known += (OutsideKey(run_id, *watched, public) for run_id in waiting.runs)
        if known:
            await self._on_found(known)
