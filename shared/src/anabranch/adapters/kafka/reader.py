"""Reads partitions of a Kafka topic without a consumer group: joins and commits nothing."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as Place

from anabranch.adapters.kafka.config import KafkaSettings
from anabranch.adapters.kafka.fetching import Batches, fetch
from anabranch.adapters.kafka.logs import LOGGER
from anabranch.adapters.kafka.polling import POLL_SECONDS, PollingThread
from anabranch.ports import Incoming

BATCHES_AHEAD = 8

_log = logging.getLogger("anabranch.kafka")


EndOffsets = Callable[[], Awaitable[Mapping[int, int]]]


class KafkaReader:
    """See `ports.Reader`. `starts` is the first offset for each partition; `end_offsets` asks the brokers."""

    def __init__(
        self, settings: KafkaSettings, topic: str, starts: Mapping[int, int], end_offsets: EndOffsets
    ) -> None:
        self._end_offsets = end_offsets
        self._batches: deque[Batches] = deque()
        self._has_batches = asyncio.Event()
        self._closed = False
        self._slots = threading.Semaphore(BATCHES_AHEAD)
        self._consumer = Consumer(settings.reader(), logger=LOGGER)
        self._consumer.assign([Place(topic, partition, start) for partition, start in starts.items()])
        self._thread = PollingThread(f"anabranch-reader-{topic}", self._poll, self._consumer.close)
        self._thread.start()

    async def __aiter__(self) -> AsyncIterator[Sequence[Incoming]]:
        while not self._closed:
            self._has_batches.clear()
            while self._batches:
                batches = self._batches.popleft()
                self._slots.release()
                for records in batches.values():
                    yield records
            await self._has_batches.wait()

    async def end_offsets(self) -> Mapping[int, int]:
        """See `ports.Reader`."""
        return await self._end_offsets()

    async def close(self) -> None:
        """End the iteration and the thread."""
        self._closed = True
        self._has_batches.set()
        await self._thread.stop()

    def _poll(self) -> None:
        batches = fetch(self._consumer, POLL_SECONDS, _denied)
        if not batches:
            return
        while not self._slots.acquire(timeout=1.0):
            if self._thread.stopping:
                return
        self._thread.post(self._take, batches)

    def _take(self, batches: Batches) -> None:
        self._batches.append(batches)
        self._has_batches.set()


def _denied(error: KafkaError) -> None:
    """Log a denial. Denials of the group are ignored: librdkafka requires a group id, which a reader never
    uses."""
    if error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
        _log.error("Kafka denied reading; librdkafka retries: %s", error.str())
