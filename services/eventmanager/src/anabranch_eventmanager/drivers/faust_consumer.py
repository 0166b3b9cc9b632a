"""Faust's Kafka consumer, with delivery in batches past Faust's streams.

Faust passes each record through two tasks, a lock, a queue and a stream, which costs several times what the
projector needs for it. Here the records of a fetch are delivered in one call for each partition, and the caller
says up to which offset Faust may commit. Membership, assignment, pauses and the recovery of tables stay Faust's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

from aiokafka.errors import ConsumerStoppedError  # type: ignore[import-untyped]
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP

from anabranch.ports import Headers, Incoming

Deliver = Callable[[int, Sequence[Incoming]], None]
"""Takes records of a partition, in offset order. Must not block."""

FETCH_SECONDS = 1.0
PACE_SECONDS = 0.05
"""Minimum seconds between two deliveries. The first record after a pause is delivered at once; under load each
fetch has several records. Below 0.1 s: for so long the Kafka client sends no further fetch while records wait."""
MAX_DELIVERED = 500
"""Maximum records of one delivery; in between other tasks run."""


class BatchConsumer(Consumer):
    """See the module."""

    logger = Consumer.logger  # else Faust makes one with this module's name, which would log at another level

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._done: dict[Any, int] = {}

    def done(self, topic: str, partition: int, following: int) -> None:
        """All records before the offset `following` are done: Faust may commit it."""
        self._done[TP(topic, partition)] = following

    def forget(self, topic: str, partition: int) -> None:
        """Commit nothing more of a revoked partition."""
        self._done.pop(TP(topic, partition), None)

    async def _drain_messages(self, fetcher: Any) -> None:
        """The loop of Faust's fetcher: fetch and deliver until it stops."""
        loop = asyncio.get_running_loop()
        try:
            while not (self.should_stop or fetcher.should_stop):
                paced = loop.time() + PACE_SECONDS
                records, active = await self._wait_next_records(FETCH_SECONDS)
                if not records:
                    await asyncio.sleep(0)
                elif self.flow_active:
                    await self._deliver_all(records, active)
                    await asyncio.sleep(paced - loop.time())
                else:
                    # Fetched while a rebalance began: they are read again from the committed offsets.
                    await self.perform_seek()
        except (asyncio.CancelledError, ConsumerStoppedError):
            if not self.app.should_stop:
                raise

    async def _deliver_all(self, records: Mapping[Any, Sequence[Any]], active: Any) -> None:
        generation = self.app.consumer_generation_id
        for tp, batch in records.items():
            for start in range(0, len(batch), MAX_DELIVERED):
                # A rebalance may have begun during an await: then the partition is read again from its committed
                # offset, and a later record must not come before that.
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    return
                if tp in active:
                    await self._deliver(tp, batch[start : start + MAX_DELIVERED])

    async def _deliver(self, tp: Any, batch: Sequence[Any]) -> None:
        if not self._is_changelog_tp(tp):
            cast(BatchTransport, self.transport).deliver(tp.partition, [_incoming(record) for record in batch])
            await asyncio.sleep(0)
            return
        for record in batch:
            following = self._read_offset[tp]
            if following is None or record.offset >= following:
                await self.callback(self._to_message(tp, record))
                self._read_offset[tp] = record.offset

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[Any]:
        """The partitions of `topics` (None: all) that may have something to commit."""
        return iter([tp for tp in self._done if topics is None or tp in topics or tp.topic in topics])

    def _new_offset(self, tp: Any) -> int | None:
        """The offset to commit."""
        return self._done.get(tp)

    def verify_event_path(self, now: float, tp: Any) -> None:
        """Faust would report records that did not reach a stream. The watchdog of the service checks progress."""


class BatchTransport(Transport):
    """Creates the consumer.

    Attributes:
        deliver: takes the records of all topics but changelogs.
    """

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer
    deliver: Deliver


def _incoming(record: Any) -> Incoming:
    value: bytes | None = record.value
    return Incoming(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        value or b"",
        _headers(record.headers),
        record.timestamp / 1_000,
        value is None,
    )


def _headers(headers: Iterable[tuple[str, bytes | None]] | None) -> Headers:
    return tuple(headers) if headers else ()
