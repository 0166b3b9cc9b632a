"""The definitions of an installation: a table over their topic, which is read when somebody asks for one.

A process that starts no definitions reads nothing. A version in the table never changes; a reference without a
version, or to an unknown one, reads what the topic has more by then.
"""

from __future__ import annotations

import asyncio
import logging

from anabranch.core.errors import Code, Misconfigured, Problem, RequestRefused
from anabranch.core.names import Names
from anabranch.core.request.definitions import (
    MAX_DEFINITIONS,
    Definition,
    Definitions,
    definition_conflict,
    split_reference,
)
from anabranch.ports import EventLog, Outgoing

log = logging.getLogger(__name__)


class DefinitionTable:
    """The definitions, up to date as of each call."""

    def __init__(self, eventlog: EventLog, names: Names) -> None:
        self._log = eventlog
        self._topic = names.definitions
        self._next = 0
        """The first offset that was not read."""
        self._known = Definitions()
        self._refresh: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None

    async def find(self, project: str, reference: str) -> Definition | None:
        """A definition by `name` or `name@version`. Raises ServerUnavailable."""
        _, version = split_reference(reference)
        found = self._known.find(project, reference) if version is not None else None
        if found is None:
            await self.refresh()
            found = self._known.find(project, reference)
        return found

    async def all(self) -> list[Definition]:
        """Every version of every definition. Raises ServerUnavailable."""
        await self.refresh()
        return list(self._known.all())

    async def push(self, definition: Definition) -> Definition:
        """Store a definition; returns it once it is on the log, with its version. The same content may be pushed
        again.

        Raises:
            RequestRefused: the version exists with another content, or there are too many definitions.
            ServerUnavailable: the log is not available.
        """
        await self.refresh()
        numbered = self._known.numbered(definition)
        for is_published in (False, True):
            known = self._known.find(numbered.project, numbered.reference)
            if known is not None:
                if known.hash == numbered.hash:
                    return known
                raise definition_conflict(numbered)
            if not is_published:
                await self._log.publish([Outgoing(self._topic, numbered.key, numbered.encode(), partition=0)])
                # Another process may have pushed the same version: the first on the log counts.
                await self.refresh()
        message = f"there are {MAX_DEFINITIONS:,} definitions, the maximum"
        raise RequestRefused([Problem(Code.TOO_LARGE, "", message)])

    async def refresh(self) -> None:
        """Read the topic to its end as of now. Calls at the same time share one read."""
        # A read that is under way may have looked up the end before this call: wait for the one after it.
        running = self._refresh
        if running is not None and not running.done():
            if self._waiting is None or self._waiting.done():
                self._waiting = asyncio.ensure_future(self._after(running))
            await asyncio.shield(self._waiting)
            return
        self._refresh = asyncio.ensure_future(self._read())
        await asyncio.shield(self._refresh)

    async def _after(self, running: asyncio.Task[None]) -> None:
        await asyncio.wait({running})
        self._refresh = asyncio.ensure_future(self._read())
        await self._refresh

    async def _read(self) -> None:
        try:
            async with self._log.read(self._topic, [0], start=self._next) as reader:
                end = (await reader.end_offsets()).get(0, 0)
                if self._next >= end:
                    return
                async for records in reader:
                    for record in records:
                        self._next = record.offset + 1
                        try:
                            self._known.apply(record.value)
                        except ValueError as error:
                            log.warning("definitions: skips the record at offset %d: %s", record.offset, error)
                    if self._next >= end:
                        return
        except Misconfigured:
            # An installation of an earlier release has no such topic, and so no definitions.
            log.warning("definitions: the topic %s does not exist, create it with: topics create", self._topic)
