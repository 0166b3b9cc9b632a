"""Writes changed documents to the changelog of a table, in batches. Knows nothing of Faust.

An offset is reported as done only after the documents that its record changed are on the changelog. These are
written only after the effects of the record have reached the servers, because a restored document keeps its events
from being forwarded again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping

from anabranch.core.errors import RecordTooLarge
from anabranch.ports import EventLog, Outgoing
from anabranch.runtime.until_available import until_available
from anabranch_eventmanager.projection.documents import Document
from anabranch_eventmanager.projection.table_records import TableRecords

COLLECT_SECONDS = 1.0
"""Seconds in which changed documents are collected before they are written.

The document of a run changes with each of its records, and nothing waits for the changelog: so the document of a
short run is written only once. After a crash at most the records of this time and of one commit interval are read
again.
"""
RETRY_SECONDS = 1.0
_FRAME_BYTES = 200
"""Upper bound of what a record takes beside its key and value."""

_log = logging.getLogger("anabranch.eventmanager")


class TableWriter:
    """See the module. Keys of the changelog start with their partition.

    Args:
        changelog: the topic.
        effects_sent: waits until the effects of all handled records have reached the servers.
        done: called with partition and offset when all records before the offset are done.
    """

    def __init__(
        self,
        log: EventLog,
        changelog: str,
        effects_sent: Callable[[], Awaitable[None]],
        done: Callable[[int, int], None],
    ) -> None:
        self._log = log
        self._changelog = changelog
        self._effects_sent = effects_sent
        self._done = done
        self._records: dict[int, TableRecords] = {}
        self._changed: dict[tuple[int, str], Document | None] = {}
        self._handled: dict[int, int] = {}
        # Taken by a write that was cancelled or has not ended; the next one continues with them.
        self._unpublished: list[Outgoing] = []
        self._undone: dict[int, int] = {}
        self._has_changed = asyncio.Event()
        self._writing = asyncio.Lock()

    def open(self, stored: Mapping[int, Mapping[str, bytes]]) -> Mapping[int, dict[str, Document]]:
        """Start with partitions and the records of their table; returns the documents in them."""
        self._records.update((number, TableRecords()) for number in stored)
        return {number: self._records[number].load(values) for number, values in stored.items()}

    def close(self, number: int) -> None:
        """Drop what is not written of a partition that was revoked."""
        self._records.pop(number, None)
        self._handled.pop(number, None)
        self._undone.pop(number, None)
        self._changed = {key: document for key, document in self._changed.items() if key[0] != number}
        self._unpublished[:] = [record for record in self._unpublished if record.partition != number]

    def put(self, number: int, key: str, document: Document | None) -> None:
        """See `projector.Persist`. Of several changes of a document only the last one is written."""
        self._changed[number, key] = document
        self._has_changed.set()

    def handled(self, number: int, following: int) -> None:
        """All records before the offset `following` were handled."""
        self._handled[number] = following
        self._has_changed.set()

    async def run(self) -> None:
        """Write changed documents until cancelled."""
        while True:
            await self._has_changed.wait()
            await asyncio.sleep(COLLECT_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write what has changed so far, and return when it is durable. The next write continues a cancelled
        one."""
        async with self._writing:
            self._has_changed.clear()
            changed, self._changed = self._changed, {}
            handled, self._handled = self._handled, {}
            try:
                await self._effects_sent()
            except BaseException:
                self._changed, self._handled = changed | self._changed, handled | self._handled
                raise
            self._unpublished += self._encoded(changed)
            self._undone |= handled
            await until_available(self._publish, "write documents", delay=RETRY_SECONDS)
            while self._undone:
                self._done(*self._undone.popitem())

    def _encoded(self, changed: Mapping[tuple[int, str], Document | None]) -> Iterator[Outgoing]:
        for (number, key), document in changed.items():
            # A partition may have been closed while the effects were sent.
            if number in self._records:
                for name, value in self._records[number].changes(key, document):
                    key_of_record = f"{number}|{name}"
                    yield Outgoing(
                        self._changelog, key_of_record, value or b"", partition=number, is_null=value is None
                    )

    async def _publish(self) -> None:
        try:
            # A copy, because `close` removes records meanwhile.
            await self._log.publish(list(self._unpublished))
        except RecordTooLarge as error:
            limit = min(error.limit, error.size) - _FRAME_BYTES
            fitting = [each for each in self._unpublished if len(each.key or "") + len(each.value) < limit]
            _log.error(
                "the event manager cannot store %d documents, so a restart will lose them: %s",
                len(self._unpublished) - len(fitting),
                error,
            )
            self._unpublished[:] = fitting
            await self._publish()
        self._unpublished.clear()
