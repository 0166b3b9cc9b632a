"""How many bytes a stretch of a topic has on the wire: it is fetched once more and counted by the client library.

A tool for measuring; no service uses it. Brokers keep batches as they send them, so this is what one replica
has on disk, but for a few bytes of framing for each answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as Place

from anabranch.adapters.kafka.config import KafkaSettings
from anabranch.adapters.kafka.faults import error_of, translate
from anabranch.adapters.kafka.logs import LOGGER
from anabranch.core.errors import ServerUnavailable

STATISTICS_MS = 50
FETCH_BYTES = 50_000_000
BATCH = 10_000
SILENCE_SECONDS = 10.0

_OF_MEASURING = {
    "statistics.interval.ms": STATISTICS_MS,
    "fetch.wait.max.ms": 5_000,  # at the end: no empty answers while the last statistics come
    "fetch.message.max.bytes": FETCH_BYTES,
    "fetch.max.bytes": FETCH_BYTES,
    "receive.message.max.bytes": FETCH_BYTES + 10_000_000,
    "socket.timeout.ms": 10_000,
}


def fetched_bytes(settings: KafkaSettings, topic: str, spans: Mapping[int, tuple[int, int]]) -> int:
    """Bytes of the records from the first offset up to, without, the second, for each partition. Blocks.

    Raises:
        ServerUnavailable: the records did not come.
    """
    if not spans:
        return 0
    received = _Received()
    consumer = Consumer(settings.reader() | _OF_MEASURING | {"stats_cb": received.take}, logger=LOGGER)
    try:
        return _counted(consumer, received, topic, spans)
    except KafkaException as refused:
        raise translate(error_of(refused), settings.brokers, f"reading {topic}") from refused
    finally:
        consumer.close()


def topics_under(settings: KafkaSettings, prefix: str) -> list[str]:
    """Names of all topics that begin so, in order. Blocks.

    Raises:
        ServerUnavailable: no broker answers.
    """
    consumer = Consumer(settings.reader(), logger=LOGGER)
    try:
        return sorted(
            name for name in consumer.list_topics(timeout=SILENCE_SECONDS).topics if name.startswith(prefix)
        )
    except KafkaException as refused:
        raise translate(error_of(refused), settings.brokers, "listing topics") from refused
    finally:
        consumer.close()


class _Received:
    """The bytes that brokers have sent so far, as the library's statistics say."""

    def __init__(self) -> None:
        self.bytes = 0
        self.reports = 0

    def take(self, statistics: str) -> None:
        brokers: Mapping[str, Any] = json.loads(statistics)["brokers"]
        self.bytes = sum(each["rxbytes"] for each in brokers.values() if each["nodeid"] >= 0)
        self.reports += 1


def _counted(consumer: Consumer, received: _Received, topic: str, spans: Mapping[int, tuple[int, int]]) -> int:
    consumer.list_topics(topic, timeout=SILENCE_SECONDS)
    _await_report(consumer, received)
    before = received.bytes
    consumer.assign([Place(topic, partition, first) for partition, (first, _) in spans.items()])
    waiting = {partition: end for partition, (_, end) in spans.items()}
    while waiting:
        messages = consumer.consume(BATCH, timeout=SILENCE_SECONDS)
        if not messages:
            raise ServerUnavailable("Kafka", topic, f"no record came for {SILENCE_SECONDS:g} s")
        for message in messages:
            partition, offset = message.partition(), message.offset()
            if message.error() is None and offset is not None and offset + 1 >= waiting.get(partition or 0, 0):
                waiting.pop(partition or 0, None)
    _await_report(consumer, received)
    return received.bytes - before


def _await_report(consumer: Consumer, received: _Received) -> None:
    """Poll until two more reports have come: the first may have been made before now."""
    wanted = received.reports + 2
    while received.reports < wanted:
        consumer.poll(STATISTICS_MS / 1_000)
