"""Measures the bytes of a range of a topic on the wire, by fetching it and reading the client's statistics.

A benchmark tool; no service uses it. Brokers store batches as they send them, so the result is the size on the
disk of one replica, except a few bytes of framing for each response.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from anabranch.adapters.kafka.config import KafkaSettings
from anabranch.adapters.kafka.faults import error_of, translate
from anabranch.adapters.kafka.logs import LOGGER
from anabranch.core.errors import ServerUnavailable

STATISTICS_MS = 50
FETCH_BYTES = 50_000_000
BATCH = 10_000
SILENCE_SECONDS = 10.0
POLL_SECONDS = 0.1

_OF_MEASURING = {
    "statistics.interval.ms": STATISTICS_MS,
    "fetch.wait.max.ms": 5_000,  # no empty responses at the end, while the last statistics arrive
    "fetch.message.max.bytes": FETCH_BYTES,
    "fetch.max.bytes": FETCH_BYTES,
    "receive.message.max.bytes": FETCH_BYTES + 10_000_000,
    "socket.timeout.ms": 10_000,
}


def fetched_bytes(settings: KafkaSettings, topic: str, spans: Mapping[int, tuple[int, int]]) -> int:
    """Bytes of the records from the first offset to the second, exclusive, for each partition. Blocks.

    Raises:
        ServerUnavailable: the records did not arrive.
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


def ends_under(settings: KafkaSettings, prefix: str) -> dict[str, dict[int, int]]:
    """The end offset of each partition of all topics with this name prefix. Blocks.

    Raises:
        ServerUnavailable: no broker responds.
    """
    admin = AdminClient(settings.admin(), logger=LOGGER)
    latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    try:
        topics = admin.list_topics(timeout=SILENCE_SECONDS).topics
        places = [
            Place(name, part)
            for name in sorted(topics)
            if name.startswith(prefix)
            for part in topics[name].partitions
        ]
        answers = admin.list_offsets(dict.fromkeys(places, latest), request_timeout=SILENCE_SECONDS)
        ends: dict[str, dict[int, int]] = {}
        for place, answer in answers.items():
            ends.setdefault(place.topic, {})[place.partition] = answer.result().offset
    except KafkaException as refused:
        raise translate(error_of(refused), settings.brokers, f"asking for offsets of {prefix}*") from refused
    return ends


class _Received:
    """The bytes that brokers have sent so far, from the library's statistics."""

    def __init__(self) -> None:
        self.bytes = 0
        self.reports = 0

    def take(self, statistics: str) -> None:
        brokers: Mapping[str, Any] = json.loads(statistics)["brokers"]
        self.bytes = sum(each["rxbytes"] for each in brokers.values() if each["nodeid"] >= 0)
        self.reports += 1


def _counted(consumer: Consumer, received: _Received, topic: str, spans: Mapping[int, tuple[int, int]]) -> int:
    # Its response is received before the count begins.
    consumer.list_topics(topic, timeout=SILENCE_SECONDS)
    _await_report(consumer, received)
    before = received.bytes
    consumer.assign([Place(topic, partition, first) for partition, (first, _) in spans.items()])
    waiting = {partition: end for partition, (_, end) in spans.items()}
    silent = 0.0
    while waiting and silent < SILENCE_SECONDS:
        messages = consumer.consume(BATCH, timeout=POLL_SECONDS)  # returns early only with BATCH messages
        silent = 0.0 if messages else silent + POLL_SECONDS
        _tick_off(waiting, messages)
    if waiting:
        raise ServerUnavailable("Kafka", topic, f"no record arrived for {SILENCE_SECONDS:g} s", "try again")
    _await_report(consumer, received)
    return received.bytes - before


def _tick_off(waiting: dict[int, int], messages: Sequence[Message]) -> None:
    """Drop the partitions whose last record is among the messages."""
    for message in messages:
        partition, offset = message.partition(), message.offset()
        if message.error() is None and partition in waiting and (offset or 0) + 1 >= waiting[partition]:
            del waiting[partition]


def _await_report(consumer: Consumer, received: _Received) -> None:
    """Poll until two more reports have arrived: the first one may have been created before this call."""
    wanted = received.reports + 2
    while received.reports < wanted:
        consumer.poll(STATISTICS_MS / 1_000)
