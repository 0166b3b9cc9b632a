"""Compares a consumer group and a share group (KIP-932) for delivering offers.

Records are like offers: without a key, distributed over all partitions. Each kind of group has two consumers in
    one process, and is measured with a burst of records and with single records.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from statistics import median
from typing import Any

from confluent_kafka import Consumer, Producer, ShareConsumer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

PARTITIONS = 12
CONSUMERS = 2
RECORD = b"x" * 600
SETTLE_SECONDS = 60.0


@dataclass(frozen=True)
class Carried:
    """Figures of one kind of group: records per second of a burst, and milliseconds from produce to read of single
    records."""

    way: str
    burst: int
    per_second: float
    p50_ms: float
    p99_ms: float


class Readers:
    """Consumers in threads that record what they read, and when."""

    def __init__(self, make: Callable[[], Any], read: Callable[[Any], list[Any]]) -> None:
        self._make, self._read = make, read
        self.seen: list[tuple[bytes, float]] = []
        self.news = threading.Condition()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CONSUMERS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        with closing(self._make()) as consumer:
            while not self._stop.is_set():
                values = [message.value() for message in self._read(consumer) if message.error() is None]
                if values:
                    now = time.perf_counter()
                    with self.news:
                        self.seen += [(value, now) for value in values]
                        self.news.notify_all()

    def await_count(self, count: int, seconds: float) -> None:
        """Wait until `count` records were read. Raises TimeoutError."""
        with self.news:
            if not self.news.wait_for(lambda: len(self.seen) >= count, seconds):
                raise TimeoutError(f"{len(self.seen)} of {count} records were read in {seconds:g} s")

    def close(self) -> None:
        """Leave the group."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def _ordinary(brokers: str, group: str, topic: str) -> Readers:
    def make() -> Any:
        consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "cooperative-sticky",
            }
        )
        consumer.subscribe([topic])
        return consumer

    def read(consumer: Any) -> list[Any]:
        first = consumer.poll(0.1)
        return [] if first is None else [first, *consumer.consume(499, 0)]

    return Readers(make, read)


def _shared(brokers: str, group: str, topic: str) -> Readers:
    admin = AdminClient({"bootstrap.servers": brokers})
    entry = ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)

    def make() -> Any:
        consumer = ShareConsumer({"bootstrap.servers": brokers, "group.id": group})
        consumer.subscribe([topic])
        return consumer

    return Readers(make, lambda consumer: list(consumer.poll(timeout=0.1)))


def carried(brokers: str, burst: int, singles: int) -> list[Carried]:
    """Measure both kinds of groups, one after the other, each on its own topic."""
    ways: dict[str, Callable[[str, str, str], Readers]] = {"consumer group": _ordinary, "share group": _shared}
    return [_measured(brokers, name, start, burst, singles) for name, start in ways.items()]


def _measured(
    brokers: str, way: str, start: Callable[[str, str, str], Readers], burst: int, singles: int
) -> Carried:
    unique = f"variants-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": brokers})
    for future in admin.create_topics([NewTopic(unique, PARTITIONS, 1)]).values():
        future.result(30)
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0, "enable.idempotence": True})
    with ExitStack() as stack:
        stack.callback(lambda: [future.result(30) for future in admin.delete_topics([unique]).values()])
        readers = stack.enter_context(closing(start(brokers, unique, unique)))
        for number in range(PARTITIONS):
            producer.produce(unique, b"warm", partition=number)
        producer.flush(30)
        readers.await_count(PARTITIONS, SETTLE_SECONDS)
        waits = sorted(_one(producer, readers, unique, number) for number in range(singles))
        known, began = len(readers.seen), time.perf_counter()
        for number in range(burst):
            producer.produce(unique, RECORD, partition=number % PARTITIONS)
            producer.poll(0)
        producer.flush(60)
        readers.await_count(known + burst, 120)
        took = readers.seen[-1][1] - began
    return Carried(way, burst, burst / took, 1e3 * median(waits), 1e3 * waits[len(waits) * 99 // 100])


def _one(producer: Any, readers: Readers, topic: str, number: int) -> float:
    known, began = len(readers.seen), time.perf_counter()
    producer.produce(topic, RECORD, partition=number % PARTITIONS)
    producer.poll(0)
    readers.await_count(known + 1, 30)
    return readers.seen[known][1] - began
