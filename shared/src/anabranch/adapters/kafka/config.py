"""The properties of every Kafka client: defaults, properties of the installation, and fixed properties. Pure.

Properties of the installation override the defaults, except those that correctness depends on: placement of keys,
durability, and explicit commits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anabranch.adapters.kafka.logs import on_error
from anabranch.adapters.limits import MAX_RECORD_BYTES

_MESSAGE_MAX_BYTES = 1_048_576
_FRAMING = _MESSAGE_MAX_BYTES - MAX_RECORD_BYTES
# Three heartbeats may be lost before the group expels a member.
_SESSION = {"session.timeout.ms": 8_000, "heartbeat.interval.ms": 2_000}


@dataclass(frozen=True)
class KafkaSettings:
    """Addresses of the brokers and properties of every client. `properties` have librdkafka's names."""

    brokers: str
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    client_id: str = "anabranch"

    @property
    def session_seconds(self) -> float:
        """After this time without a sign of life, a group expels a member."""
        name = "session.timeout.ms"
        return int(self.properties.get(name, _SESSION[name])) / 1_000

    @property
    def max_record_bytes(self) -> int:
        """The limit of one record: `message.max.bytes` without the framing of its batch."""
        return int(self.properties.get("message.max.bytes", _MESSAGE_MAX_BYTES)) - _FRAMING

    def record_limit(self, topic_bytes: str | None) -> int:
        """The size limit of a record on a topic, from its `max.message.bytes`; None if reading it is not
        permitted."""
        own = self.max_record_bytes
        return own if topic_bytes is None else min(own, int(topic_bytes) - _FRAMING)

    def admin(self) -> dict[str, Any]:
        """Properties of the client that creates topics and reads offsets."""
        return self._common({})

    def producer(self, batch_bytes: int | None = None) -> dict[str, Any]:
        """Properties of a producer. Keys are placed as the Java client does, which clients in other languages
        expect.

        Args:
            batch_bytes: the smallest limit of a topic, because a broker refuses a larger batch, even of small
                records.
        """
        batches = {} if batch_bytes is None else {"batch.size": max(batch_bytes, 1)}
        defaults = {
            "compression.type": "lz4",
            "linger.ms": 0,
            "message.max.bytes": _MESSAGE_MAX_BYTES,
            "delivery.timeout.ms": 120_000,
            "queue.buffering.max.messages": 100_000,
            "queue.buffering.max.kbytes": 65_536,
        }
        # With more than one request in flight, a new partition's first batch can be refused (its leader is not
        # ready) and its second taken; librdkafka then reports both as delivered, and the first is lost:
        # https://github.com/confluentinc/confluent-kafka-go/issues/921
        fixed = {
            "acks": "all",
            "enable.idempotence": True,
            "max.in.flight.requests.per.connection": 1,
            "partitioner": "murmur2_random",
        }
        return self._common(defaults | batches) | fixed

    def member(self, group: str) -> dict[str, Any]:
        """Properties of a member of a consumer group. A short session timeout makes a takeover quick."""
        defaults = self._fetching() | _SESSION
        fixed = {
            "group.id": group,
            # A rebalance revokes only the partitions that move; the others are read without a pause.
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # For a position that retention removed, or that a recreated topic does not have: no record may be
            # skipped.
            "auto.offset.reset": "earliest",
        }
        return self._common(defaults) | fixed

    def asker(self, group: str) -> dict[str, Any]:
        """Properties of a consumer that reads the positions of a group without joining it."""
        fixed = {"group.id": group, "enable.auto.commit": False, "enable.auto.offset.store": False}
        defaults = {"socket.timeout.ms": 10_000, "allow.auto.create.topics": False}
        # With the session timeout, because librdkafka refuses a poll interval below it.
        return self._common(defaults | _SESSION) | fixed

    def reader(self) -> dict[str, Any]:
        """Properties of a consumer without a group. librdkafka requires a group id, which no member ever joins."""
        fixed = {
            "group.id": f"{self.client_id}.reader",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
        }
        return self._common(self._fetching() | _SESSION) | fixed

    def _fetching(self) -> dict[str, Any]:
        """Limits of prefetching, and a short backoff of a full queue instead of librdkafka's second.

        A response is at most two megabytes. Otherwise a replay of a dozen partitions would get a megabyte of each,
        and its decompressed records, in one response. A larger record is still fetched: the limit is soft.
        """
        return {
            "queued.max.messages.kbytes": 4_096,
            "max.partition.fetch.bytes": 262_144,
            "fetch.max.bytes": 2_097_152,
            "fetch.queue.backoff.ms": 20,
            "socket.timeout.ms": 10_000,
            "allow.auto.create.topics": False,
        }

    def _common(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        base = {
            "client.id": self.client_id,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "statistics.interval.ms": 0,
            "log.connection.close": False,
            "error_cb": on_error,
        }
        given = {name: value for name, value in self.properties.items() if name != "bootstrap.servers"}
        return base | dict(defaults) | given | {"bootstrap.servers": self.brokers}
