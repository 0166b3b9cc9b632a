"""The dead letters in memory, brought up to date at each look, and whose they are."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing

import orjson

from anabranch.core.envelope import unwrap
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.deadletters.letterbox import Letter, fold
from anabranch.ports import Incoming
from anabranch.runtime.reading import records_between
from anabranch.sdk.client import Client
from anabranch_gateway.auth import Caller
from anabranch_gateway.projects import RunProjects

MOST_BYTES = 64_000_000
"""Of letters in memory: beyond, the oldest are left out, here and in what is shown."""


class Letters:
    """See the module. A letter that belongs to no run is for those who see every project."""

    def __init__(self, client: Client, projects: RunProjects) -> None:
        self._client = client
        self._records: dict[int, deque[Incoming]] = {}
        self._next: dict[int, int] = {}
        self._bytes = 0
        self._folded: list[Letter] = []
        self._lock = asyncio.Lock()
        self._projects = projects

    async def of(self, caller: Caller) -> list[Letter]:
        """The letters that a caller may see, the oldest first. Raises ServerUnavailable."""
        async with self._lock:
            if await self._read():
                self._folded = fold(record for records in self._records.values() for record in records)
        return await self.visible(caller, self._folded)

    async def visible(self, caller: Caller, found: Sequence[Letter]) -> list[Letter]:
        """Those of these letters that a caller may see."""
        if caller.projects is None:
            return list(found)
        projects = await self._projects.of({letter.run_id for letter in found if letter.run_id is not None})
        return [letter for letter in found if _sees(caller, letter, projects)]

    async def _read(self) -> bool:
        """Read what is new; whether anything is."""
        log, topic = self._client.log, self._client.names.dead_letters
        standings = await log.group_standing(f"{self._client.names.prefix}dead-letters", topic)
        changed = False
        for partition, standing in standings.items():
            start = max(self._next.get(partition, 0), standing.first)
            records = self._records.setdefault(partition, deque())
            async with aclosing(records_between(log, topic, partition, start, standing.end)) as found:
                async for record in found:
                    records.append(record)
                    self._bytes += len(record.value)
                    changed = True
            self._next[partition] = standing.end
        self._trim()
        return changed

    def _trim(self) -> None:
        while self._bytes > MOST_BYTES:
            oldest = min((each for each in self._records.values() if each), key=lambda each: each[0].timestamp)
            self._bytes -= len(oldest.popleft().value)


def _sees(caller: Caller, letter: Letter, projects: dict[str, str]) -> bool:
    project = projects.get(letter.run_id or "") or (None if letter.member else _named_project(letter.record.value))
    return project is not None and caller.sees(project)


def _named_project(value: bytes) -> str | None:
    """The project that a refused request names; None where the bytes are no request."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict) or "type" in document:
        return None
    project = unwrap(document).request.get("project") or DEFAULT_PROJECT
    return project if isinstance(project, str) else None
