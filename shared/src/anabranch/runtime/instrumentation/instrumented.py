"""Decorators of the log and the store that count records, dead letters and failed calls.

They pass each call on unchanged, and are used only if the process keeps metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Literal

from anabranch.core.errors import RecordTooLarge, ServerUnavailable, StoreRefused
from anabranch.core.names import Names
from anabranch.core.telemetry import DEAD_LETTERS, LOG_FAILURES, RECORDS_PUBLISHED, STORE_FAILURES, Metric
from anabranch.core.wire import dead_letters
from anabranch.ports import (
    Beginning,
    EventLog,
    Fence,
    History,
    HistoryEntry,
    Membership,
    Outgoing,
    PartitionListener,
    Put,
    Reader,
    Standing,
    StateStore,
    Telemetry,
    TopicSpec,
    Write,
)
from anabranch.runtime.process.resources import Resources


def instrument(resources: Resources, telemetry: Telemetry) -> Resources:
    """The resources with telemetry; if it keeps metrics, with the counting log and store."""
    if not telemetry.measures:
        return replace(resources, telemetry=telemetry)
    return replace(
        resources,
        telemetry=telemetry,
        log=InstrumentedLog(resources.log, resources.names, telemetry),
        store=InstrumentedStore(resources.store, telemetry),
    )


@contextmanager
def _count_failure(telemetry: Telemetry, metric: Metric, operation: str) -> Iterator[None]:
    try:
        yield
    except (ServerUnavailable, StoreRefused, RecordTooLarge):
        telemetry.count(metric, operation=operation)
        raise


class InstrumentedLog:
    """See `ports.EventLog`. Counts published records, dead letters by code, and failed calls by operation."""

    def __init__(self, log: EventLog, names: Names, telemetry: Telemetry) -> None:
        self._inner = log
        self._names = names
        self._telemetry = telemetry

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        with self._counting_failures("publish"):
            offsets = await self._inner.publish(records)
        for topic, count in Counter([record.topic for record in records]).items():
            self._telemetry.count(RECORDS_PUBLISHED, count, topic=topic.removeprefix(self._names.prefix))
            if topic == self._names.dead_letters:
                self._count_dead_letters([record for record in records if record.topic == topic])
        return offsets

    def _count_dead_letters(self, records: Sequence[Outgoing]) -> None:
        for record in records:
            pairs = record.headers.items() if isinstance(record.headers, Mapping) else record.headers
            # The last header of the name is this project's; the original record may have had one, too.
            found = [value for name, value in pairs if name == dead_letters.CODE and value is not None]
            self._telemetry.count(DEAD_LETTERS, code=found[-1].decode("utf-8", "replace") if found else "")

    async def join(self, group: str, topics: Sequence[str], listener: PartitionListener) -> Membership:
        with self._counting_failures("join"):
            return await self._inner.join(group, topics, listener)

    def read(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        start: int | Literal["earliest", "latest"] = "latest",
    ) -> AbstractAsyncContextManager[Reader]:
        return self._inner.read(topic, partitions, start)

    async def create_topics(self, topics: Sequence[TopicSpec]) -> Sequence[str]:
        return await self._inner.create_topics(topics)

    async def partition_count(self, topic: str) -> int:
        with self._counting_failures("partition_count"):
            return await self._inner.partition_count(topic)

    async def record_limit(self, topic: str) -> int:
        return await self._inner.record_limit(topic)

    async def incarnation(self, topic: str) -> str:
        return await self._inner.incarnation(topic)

    async def beginnings(self, topic: str, partitions: Collection[int]) -> Mapping[int, Beginning]:
        with self._counting_failures("beginnings"):
            return await self._inner.beginnings(topic, partitions)

    async def topic_settings(self, topic: str) -> Mapping[str, str]:
        return await self._inner.topic_settings(topic)

    async def partition_for(self, topic: str, key: str) -> int:
        return await self._inner.partition_for(topic, key)

    async def group_lag(self, group: str, topic: str) -> Mapping[int, int]:
        with self._counting_failures("group_lag"):
            return await self._inner.group_lag(group, topic)

    async def group_standing(self, group: str, topic: str, *, members: bool = False) -> Mapping[int, Standing]:
        with self._counting_failures("group_standing"):
            return await self._inner.group_standing(group, topic, members=members)

    async def close(self) -> None:
        await self._inner.close()

    def _counting_failures(self, operation: str) -> AbstractContextManager[None]:
        return _count_failure(self._telemetry, LOG_FAILURES, operation)


class InstrumentedStore:
    """See `ports.StateStore`. Counts failed calls by operation."""

    def __init__(self, store: StateStore, telemetry: Telemetry) -> None:
        self._inner = store
        self._telemetry = telemetry

    async def get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        with self._counting_failures("get"):
            return await self._inner.get(keys)

    async def put(self, writes: Sequence[Write | HistoryEntry], fence: Fence | None = None) -> None:
        with self._counting_failures("put"):
            await self._inner.put(writes, fence)

    async def put_all(self, puts: Sequence[Put]) -> None:
        with self._counting_failures("put"):
            await self._inner.put_all(puts)

    async def put_new(self, write: Write) -> bytes | None:
        with self._counting_failures("put_new"):
            return await self._inner.put_new(write)

    async def history(self, key: str, last: int | None = None) -> History:
        with self._counting_failures("history"):
            return await self._inner.history(key, last)

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[str]:
        with self._counting_failures("claim"):
            return await self._inner.claim(keys, owner, ttl)

    async def release(self, keys: Sequence[str], owner: str) -> None:
        with self._counting_failures("release"):
            await self._inner.release(keys, owner)

    async def expire(self, keys: Sequence[str], ttl: float) -> None:
        with self._counting_failures("expire"):
            await self._inner.expire(keys, ttl)

    async def delete(self, keys: Sequence[str]) -> int:
        with self._counting_failures("delete"):
            return await self._inner.delete(keys)

    async def index_add(self, index: str, scores: Mapping[str, float], *, keep: int, ttl: float) -> None:
        with self._counting_failures("index_add"):
            await self._inner.index_add(index, scores, keep=keep, ttl=ttl)

    async def index_top(self, index: str, count: int, offset: int = 0) -> Sequence[str]:
        with self._counting_failures("index_top"):
            return await self._inner.index_top(index, count, offset)

    async def index_remove(self, index: str, members: Sequence[str]) -> None:
        with self._counting_failures("index_remove"):
            await self._inner.index_remove(index, members)

    async def identity(self) -> str:
        with self._counting_failures("identity"):
            return await self._inner.identity()

    async def check(self) -> None:
        await self._inner.check()

    async def close(self) -> None:
        await self._inner.close()

    def _counting_failures(self, operation: str) -> AbstractContextManager[None]:
        return _count_failure(self._telemetry, STORE_FAILURES, operation)
