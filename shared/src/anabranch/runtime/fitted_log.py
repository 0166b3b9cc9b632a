"""An `EventLog` that fits records to the size limit of their topic before it publishes them.

A record over the limit is handled by topic:

    runs, groups   split into fragments, which readers reassemble (`core.wire.fragments.Assembler`)
    events         split into several records; the data of a single entry that is too large are truncated
    results        published without its details, if necessary also without its values, which are in the store
    dead-letters   truncated to the first bytes of the original; a header has the original size
    others         refused with RecordTooLarge before anything is appended; the publisher handles that

So the log never refuses an effect of a decision for its size. Such a refusal would crash every next owner of the
partition in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Literal

from anabranch.adapters.limits import maybe_large, record_bytes
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
from anabranch.runtime.ownership.dead_letter import fit_dead_letter

log = logging.getLogger(__name__)

MAX_REFITS = 5
"""Attempts before the last one. If the broker does not show its limit, each attempt halves the refused size."""


def size_of(record: Outgoing) -> int:
    """The size of a record in bytes, as the limits count it."""
    return record_bytes(record)


class AssemblingReader:
    """See `ports.Reader`. Returns a fragmented message in place of its last fragment."""

    def __init__(self, reader: Reader) -> None:
        self._inner = reader
        self._assemblers: dict[int, Assembler] = {}

    async def __aiter__(self) -> AsyncIterator[Sequence[Incoming]]:
        async for batch in self._inner:
            yield [self._whole(record) for record in batch]

    def _whole(self, record: Incoming) -> Incoming:
        if not is_fragment(record.value):
            return record
        # Fragments of a message are consecutive only within their partition.
        assembler = self._assemblers.setdefault(record.partition, Assembler())
        return replace(record, value=assembler.whole(record.value, record.offset, record.timestamp))

    async def end_offsets(self) -> Mapping[int, int]:
        return await self._inner.end_offsets()


class FittedLog:
    """See `ports.EventLog`."""

    def __init__(self, log: EventLog, names: Names) -> None:
        self._inner = log
        self._names = names
        # Each partition of these topics has one reader, its owner, which reassembles the fragments. Consumers of
        # other topics would get the pieces.
        self._fragmented_topics = frozenset((names.runs, names.groups))

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """See `ports.EventLog`. For a record that was split, returns the offset of its last part."""
        if not maybe_large(records):  # fast path: does not ask for limits
            try:
                return await self._inner.publish(records)
            except RecordTooLarge:  # a lowered limit may refuse small records, or the batch
                pass
        for _ in range(MAX_REFITS):
            # The limit may have been lowered after it was read, or the client may have no permission to read it.
            with suppress(RecordTooLarge):
                return await self._publish(records)
        return await self._publish(records)

    async def _publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        # Read at each attempt: the attempt before was refused, so the cached limits may be outdated.
        limits = {topic: await self._inner.record_limit(topic) for topic in {each.topic for each in records}}
        fitted = [list(self._fitted(record, limits[record.topic])) for record in records]
        offsets = iter(await self._inner.publish([piece for pieces in fitted for piece in pieces]))
        # A message is complete only with its last piece, so the offset of that piece is its position.
        return [[next(offsets) for _ in pieces][-1] for pieces in fitted]

    def _fitted(self, record: Outgoing, limit: int) -> Iterator[Outgoing]:
        size = record_bytes(record)
        if size <= limit:
            yield record
            return
        # Each piece repeats the key and the headers, so their bytes reduce what is left for the value.
        value_limit = limit - (size - len(record.value))
        if record.topic in self._fragmented_topics and size <= MAX_MESSAGE_BYTES:
            yield from (replace(record, value=value) for value in fragments_of(record.value, value_limit))
            return
        log.warning(
            "publisher shrinks a record for %s: it has %d bytes, the limit is %d", record.topic, size, limit
        )
        if record.topic == self._names.events:
            yield from (replace(record, value=value) for value in fit_events(record.value, value_limit))
        elif record.topic == self._names.results:
            yield replace(record, value=fit_result(record.value, value_limit))
        elif record.topic == self._names.dead_letters:
            yield fit_dead_letter(record, limit)
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
        """See `ports.EventLog`. A fragmented message is returned whole, in place of its last fragment."""
        async with self._inner.read(topic, partitions, start) as reader:
            yield AssemblingReader(reader) if topic in self._fragmented_topics else reader

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
