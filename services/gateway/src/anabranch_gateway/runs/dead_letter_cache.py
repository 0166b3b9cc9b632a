"""The dead letters in memory, updated from their topic on each read, and the project of each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, get_args

import orjson

from anabranch.core.project import project_named
from anabranch.core.request.envelope import is_envelope, unwrap
from anabranch.core.request.models import ControlType
from anabranch.dead_letters.reader import DeadLetter, from_records
from anabranch.ports import Incoming
from anabranch.runtime.reading.log_range import records_between
from anabranch.sdk.client import Client
from anabranch_gateway.access.callers import Caller
from anabranch_gateway.access.project_cache import ProjectCache

MAX_BYTES = 64_000_000
"""Maximum bytes of dead letters in memory. Beyond it the oldest are dropped, and are no longer shown."""


class DeadLetterCache:
    """Dead letters by partition. One without a known project is visible only to callers who see all projects."""

    def __init__(self, client: Client, projects: ProjectCache) -> None:
        self._client = client
        self._records: dict[int, deque[Incoming]] = {}
        self._next: dict[int, int] = {}
        self._bytes = 0
        self._dead_letters: list[DeadLetter] = []
        self._lock = asyncio.Lock()
        self._projects = projects

    async def read(self, caller: Caller) -> list[DeadLetter]:
        """The dead letters that a caller may see, the oldest first. Raises ServerUnavailable."""
        async with self._lock:
            if await self._read_new():
                self._dead_letters = from_records(
                    record for records in self._records.values() for record in records
                )
        return await self._visible(caller, self._dead_letters)

    async def _visible(self, caller: Caller, found: Sequence[DeadLetter]) -> list[DeadLetter]:
        if caller.projects is None:
            return list(found)
        requests = self._client.names.requests
        runs = {letter.run_id for letter in found if _belongs_to_its_run(letter, requests)}
        projects = await self._projects.projects({run_id for run_id in runs if run_id is not None})
        owners = ((letter, _project_of(letter, requests, projects)) for letter in found)
        return [letter for letter, project in owners if project is not None and caller.sees(project)]

    async def _read_new(self) -> bool:
        """Read the records since the last read; returns whether there are any."""
        log, topic = self._client.log, self._client.names.dead_letters
        standings = await log.group_standing(f"{self._client.names.prefix}dead-letters", topic)
        changed = False
        for partition, standing in standings.items():
            # Retention may have deleted records that were not read yet.
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
        while self._bytes > MAX_BYTES:
            # Each partition is in order, so the oldest record is the first one of some partition.
            oldest = min((each for each in self._records.values() if each), key=lambda each: each[0].timestamp)
            self._bytes -= len(oldest.popleft().value)


def _belongs_to_its_run(letter: DeadLetter, requests: str) -> bool:
    """True if a dead letter belongs to the project of the run that it names.

    A refused request does not: its request id may be that of another project's run. A control record does, if it
    names no project, and so does what services wrote: a failed member, a record of their own topics.
    """
    if letter.project is not None:
        return False
    return letter.member is not None or letter.origin_topic != requests or _is_control(letter)


def _is_control(letter: DeadLetter) -> bool:
    document = _parsed(letter.record.value)
    return document is not None and not is_envelope(document) and document.get("type") in get_args(ControlType)


def _project_of(letter: DeadLetter, requests: str, projects: Mapping[str, str]) -> str | None:
    """The project of a dead letter; None if it is not known."""
    if _belongs_to_its_run(letter, requests):
        return projects.get(letter.run_id or "")
    document = _parsed(letter.record.value)
    return letter.project or (None if document is None else project_named(unwrap(document).request))


def _parsed(value: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
