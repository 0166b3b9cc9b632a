"""The log as services publish to it, which every record fits: the one place that knows how large a record may be.

What a record over its topic's limit becomes depends on the topic:

    runs, groups   fragments, which the owner of the partition puts together again (`core.fragments.Assembler`)
    events         several records; the data of a single entry that is too large is cut
    results        the record without its details, and in the end without its values, which are in the store
    dead-letters   the letter with the first bytes of the original, whose size stands in a header
    others         refused before anything is appended: whoever publishes it has another way

So no effect of a decision can be refused by the log for its size, which would end each owner of the partition.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Literal

from anabranch.adapters.limits import is_small, record_bytes
from anabranch.core.errors import RecordTooLarge
from anabranch.core.names import Names
from anabranch.core.wire.fragments import MAX_MESSAGE_BYTES, Assembler, fragments_of, is_fragment
from anabranch.core.wire.record_fitting import fit_events, fit_result
from anabranch.ports import (
    Beginning,
    EventLog,
    Incoming,
    Membership,
    Outgoing,
    PartitionListener,
    Reader,
    Standing,
    TopicSpec,
)
from anabranch.runtime.ownership.dead_letter import fit_letter

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""Before the last one. Where the log does not tell its limit, half of what it has refused is tried each time."""


def size_of(record: Outgoing) -> int:
    """Bytes of a record as limits count them."""
    return record_bytes(record)


class WholeReader:
    """See `ports.Reader`."""

    def __init__(self, reader: Reader) -> None:
        self._inner = reader
        self._assemblers: dict[int, Assembler] = {}

    async def __aiter__(self) -> AsyncIterator[Sequence[Incoming]]:
        async for batch in self._inner:
            yield [self._whole(record) for record in batch]

    def _whole(self, record: Incoming) -> Incoming:
        if not is_fragment(record.value):
            return record
        assembler = self._assemblers.setdefault(record.partition, Assembler())
        return replace(record, value=assembler.whole(record.value, record.offset, record.timestamp))

    async def end_offsets(self) -> Mapping[int, int]:
        return await self._inner.end_offsets()


class FittedLog:
    """See `ports.EventLog`."""

    def __init__(self, log: EventLog, names: Names) -> None:
        self._inner = log
        self._names = names
        self._cut_topics = frozenset((names.runs, names.groups))

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """See `ports.EventLog`. Of a record that became several, the offset is that of the last one."""
        if all(map(is_small, records)):
            with suppress(RecordTooLarge):  # as a batch, under a limit that was lowered
                return await self._inner.publish(records)
        for _ in range(ATTEMPTS):
            # The limit may have been lowered since it was asked for, or nobody may ask for it.
            with suppress(RecordTooLarge):
                return await self._publish(records)
        return await self._publish(records)

    async def _publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        limits = {topic: await self._inner.record_limit(topic) for topic in {each.topic for each in records}}
        fitted = [list(self._fitted(record, limits[record.topic])) for record in records]
        offsets = iter(await self._inner.publish([piece for pieces in fitted for piece in pieces]))
        return [[next(offsets) for _ in pieces][-1] for pieces in fitted]

    def _fitted(self, record: Outgoing, limit: int) -> Iterator[Outgoing]:
        size = record_bytes(record)
        if size <= limit:
            yield record
            return
        room = limit - (size - len(record.value))
        if record.topic in self._cut_topics and size <= MAX_MESSAGE_BYTES:
            yield from (replace(record, value=value) for value in fragments_of(record.value, room))
            return
        log.warning("a record for %s has %d bytes, %d are allowed: it is cut", record.topic, size, limit)
        if record.topic == self._names.events:
            yield from (replace(record, value=value) for value in fit_events(record.value, room))
        elif record.topic == self._names.results:
            yield replace(record, value=fit_result(record.value, room))
        elif record.topic == self._names.dead_letters:
            yield fit_letter(record, limit)
        else:
            raise RecordTooLarge(record.topic, size, limit)

    async def record_limit(self, topic: str) -> int:
        return await self._inner.record_limit(topic)

    async def join(self, group: str, topics: Sequence[str], listener: PartitionListener) -> Membership:
        return await self._inner.join(group, topics, listener)

    @asynccontextmanager
    async def read(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        start: int | Literal["earliest", "latest"] = "latest",
    ) -> AsyncIterator[Reader]:
        """See `ports.EventLog`. The last fragment of a message that was cut is read as the whole of it."""
        async with self._inner.read(topic, partitions, start) as reader:
            yield WholeReader(reader) if topic in self._cut_topics else reader

    async def create_topics(self, topics: Sequence[TopicSpec]) -> Sequence[str]:
        return await self._inner.create_topics(topics)

    async def partition_count(self, topic: str) -> int:
        return await self._inner.partition_count(topic)

    async def incarnation(self, topic: str) -> str:
        return await self._inner.incarnation(topic)

    async def beginnings(self, topic: str, partitions: Collection[int]) -> Mapping[int, Beginning]:
        return await self._inner.beginnings(topic, partitions)

    async def topic_settings(self, topic: str) -> Mapping[str, str]:
        return await self._inner.topic_settings(topic)

    async def partition_for(self, topic: str, key: str) -> int:
        return await self._inner.partition_for(topic, key)

    async def group_lag(self, group: str, topic: str) -> Mapping[int, int]:
        return await self._inner.group_lag(group, topic)

    async def group_standing(self, group: str, topic: str, *, members: bool = False) -> Mapping[int, Standing]:
        return await self._inner.group_standing(group, topic, members=members)

    async def close(self) -> None:
        await self._inner.close()
