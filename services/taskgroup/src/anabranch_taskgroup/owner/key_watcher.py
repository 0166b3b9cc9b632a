"""Waits for keys of a session that somebody outside the run provides, and reads them when they are there.

A message on the key's channel is a wake-up, never the data. Where none comes the key is read again, every 5 s
at first and every minute in the end, all keys in one round trip.
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
from anabranch.runtime.reading.public_values import PublicValue, judged
from anabranch.runtime.until_available import until_available

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0

FIRST_LOOK = 5.0
LAST_LOOK = 60.0

Key = tuple[str, str]
"""Session id and key."""


@dataclass(frozen=True, slots=True)
class OutsideKey:
    """A key that a run waits for, and the value that it has now."""

    run_id: str
    session_id: str
    key: str
    value: PublicValue


Found = Callable[[Sequence[OutsideKey]], Awaitable[None]]
BLOCK = 1_000
"""Subscriptions that are asked for at once."""


@dataclass(slots=True)
class _Waiting:
    runs: set[str] = field(default_factory=set)
    callback: Callable[[bytes | None], None] | None = None


class KeyWatcher:
    """One for each worker process; runs that wait for the same key share a subscription."""

    def __init__(self, resources: Resources, found: Found) -> None:
        self._store = resources.store
        self._names = resources.names
        self._notifier = resources.notifier
        self._telemetry = resources.telemetry
        self._tasks = resources.supervisor.tasks()
        self._found = found
        self._waiting: dict[Key, _Waiting] = {}
        self._dirty: set[Key] = set()
        self._unasked: set[Key] = set()
        """Of these the ones that are only looked at because it is time to: nobody said that they are there."""
        self._wake = asyncio.Event()
        self._interval = FIRST_LOOK

    async def start(self) -> None:
        self._tasks.spawn(self._loop(), "watch keys")

    async def stop(self) -> None:
        await self._tasks.cancel()
        for session_id, key in list(self._waiting):
            await self._forget((session_id, key))

    async def watch(self, run_id: str, session_id: str, key: str) -> None:
        """Subscribe, then read: what is set before and what is published after are both seen."""
        place = (session_id, key)
        waiting = self._waiting.get(place)
        if waiting is None:
            waiting = self._waiting[place] = _Waiting()
            waiting.callback = partial(self._told, place)
            try:
                await self._notifier.subscribe(session_key(session_id, key), waiting.callback)
            except BaseException:
                if not waiting.runs:  # else it would be taken for subscribed, and stay after its run
                    await self._forget(place)
                raise
        waiting.runs.add(run_id)
        self._interval = FIRST_LOOK
        self._told(place, None)

    async def watch_all(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """Watch each (run id, session id, key): one round trip for a block of them, and not for each."""
        left = list(keys)
        for start in range(0, len(left), BLOCK):
            await asyncio.gather(*(self.watch(*each) for each in left[start : start + BLOCK]))

    async def unwatch_all(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """Stop watching each (run id, session id, key)."""
        await asyncio.gather(*(self.unwatch(*each) for each in keys))

    async def unwatch(self, run_id: str, session_id: str, key: str) -> None:
        waiting = self._waiting.get((session_id, key))
        if waiting is None:
            return
        waiting.runs.discard(run_id)
        if not waiting.runs:
            await self._forget((session_id, key))

    async def _forget(self, place: Key) -> None:
        waiting = self._waiting.pop(place, None)
        self._dirty.discard(place)
        self._unasked.discard(place)
        if waiting is not None and waiting.callback is not None:
            await self._notifier.unsubscribe(session_key(*place), waiting.callback)

    def _told(self, place: Key, message: bytes | None) -> None:
        self._dirty.add(place)
        self._unasked.discard(place)
        self._wake.set()

    async def _loop(self) -> None:
        while True:
            await self._wait()
            places = [place for place in self._dirty if place in self._waiting]
            self._dirty.clear()
            if not places:
                continue
            await until_available(partial(self._look, places), "read the keys of sessions", delay=RETRY_SECONDS)

    async def _wait(self) -> None:
        """Until a message comes, or it is time to look at everything again."""
        self._wake.clear()
        if self._dirty:
            return
        try:
            async with asyncio.timeout(self._interval if self._waiting else None):
                await self._wake.wait()
        except TimeoutError:
            self._interval = min(self._interval * 2, LAST_LOOK)
            self._unasked.update(self._waiting.keys() - self._dirty)
            self._dirty.update(self._waiting)

    async def _look(self, places: list[Key]) -> None:
        found = await self._store.get([session_key(*place) for place in places])
        known: list[OutsideKey] = []
        for place, value in zip(places, found, strict=True):
            waiting = self._waiting.get(place)
            is_unasked = place in self._unasked
            self._unasked.discard(place)
            if value is None or waiting is None:
                continue
            if is_unasked:
                self._telemetry.count(RECOVERED)
            public = await judged(self._store, self._names, *place, value)
            if public is None:  # it expired meanwhile: the next look is for what comes then
                continue
            known += (OutsideKey(run_id, *place, public) for run_id in waiting.runs)
        if known:
            await self._found(known)
