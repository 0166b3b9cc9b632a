"""The log on Kafka: implements `ports.EventLog` by delegation to the modules of this package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from confluent_kafka import KafkaException

from anabranch.adapters.kafka.config import KafkaSettings
from anabranch.adapters.kafka.consumer import KafkaMembership
from anabranch.adapters.kafka.faults import error_of
from anabranch.adapters.kafka.producer import KafkaPublisher
from anabranch.adapters.kafka.reader import KafkaReader
from anabranch.adapters.kafka.topics import FIRST, NEXT, KafkaTopics
from anabranch.adapters.limits import RecordLimits
from anabranch.adapters.partitioner import partition_of
from anabranch.core.errors import Misconfigured
from anabranch.ports import Beginning, Outgoing, PartitionListener, Standing, TopicSpec

CONNECT_SECONDS = 10.0


class KafkaLog:
    """A client of a Kafka cluster, bound to the event loop on which it was connected."""

    def __init__(self, settings: KafkaSettings, timeout: float) -> None:
        self._settings = settings
        self._topics = KafkaTopics(settings, timeout)
        self._limits = RecordLimits()
        self._publisher = KafkaPublisher(settings, self._limits)
        self._memberships: list[KafkaMembership] = []
        self._readers: list[KafkaReader] = []

    @classmethod
    async def connect(
        cls,
        brokers: str,
        *,
        properties: Mapping[str, str] | None = None,
        client_id: str = "anabranch",
        timeout: float = CONNECT_SECONDS,
    ) -> KafkaLog:
        """Connect to `brokers` ("host:port,..."). `properties` have librdkafka's names and apply to every client.

        Raises ServerUnavailable if no broker responds within `timeout` seconds, Misconfigured if librdkafka has no
        such property."""
        try:
            log = cls(KafkaSettings(brokers, dict(properties or {}), client_id), timeout)
        except KafkaException as wrong:
            raise Misconfigured(
                "Kafka client properties", error_of(wrong).str(), "use the names and values of librdkafka"
            ) from wrong
        await log._topics.reach()
        log._publisher.warm()
        return log

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """See `ports.EventLog`. Partitions are sent to in the order of their first records."""
        return await self._publisher.publish(records)

    async def join(self, group: str, topics: Sequence[str], listener: PartitionListener) -> KafkaMembership:
        """See `ports.EventLog`. Raises Misconfigured if a topic does not exist."""
        # librdkafka reports a subscription to a missing topic only as an error while polling.
        for topic in topics:
            await self._topics.count(topic)
        membership = KafkaMembership(self._settings, group, topics, listener)
        self._memberships = [each for each in self._memberships if not each.is_closed]
        self._memberships.append(membership)
        membership.start()
        return membership

    @asynccontextmanager
    async def read(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        start: int | Literal["earliest", "latest"] = "latest",
    ) -> AsyncIterator[KafkaReader]:
        """See `ports.EventLog`."""
        chosen = await self._existing(topic, partitions)
        starts = await self._starts(topic, chosen, start)
        reader = KafkaReader(self._settings, topic, starts, lambda: self._topics.offsets(topic, chosen, NEXT))
        self._readers.append(reader)
        try:
            yield reader
        finally:
            self._readers.remove(reader)
            await reader.close()

    async def create_topics(self, topics: Sequence[TopicSpec]) -> Sequence[str]:
        """See `ports.EventLog`."""
        return await self._topics.create(topics)

    async def partition_count(self, topic: str) -> int:
        """See `ports.EventLog`."""
        return await self._topics.count(topic)

    async def record_limit(self, topic: str) -> int:
        """See `ports.EventLog`."""
        known = self._limits.known(topic, 0)
        if known:
            return known
        settings = await self._topics.settings_of(topic)
        return self._limits.note(topic, self._settings.record_limit(settings.get("max.message.bytes")))

    async def incarnation(self, topic: str) -> str:
        """See `ports.EventLog`."""
        return await self._topics.incarnation(topic)

    async def beginnings(self, topic: str, partitions: Collection[int]) -> Mapping[int, Beginning]:
        """See `ports.EventLog`."""
        return await self._topics.beginnings(topic, partitions)

    async def topic_settings(self, topic: str) -> Mapping[str, str]:
        """See `ports.EventLog`."""
        return await self._topics.settings_of(topic)

    async def partition_for(self, topic: str, key: str) -> int:
        """See `ports.EventLog`."""
        return partition_of(key, await self._topics.count(topic))

    async def group_lag(self, group: str, topic: str) -> Mapping[int, int]:
        """See `ports.EventLog`."""
        return await self._topics.lag(group, topic)

    async def group_standing(self, group: str, topic: str, *, members: bool = False) -> Mapping[int, Standing]:
        """See `ports.EventLog`."""
        return await self._topics.standing(group, topic, members=members)

    async def close(self) -> None:
        """See `ports.EventLog`. Open memberships leave the group first."""
        # Listeners publish and commit while they are revoked, so the producer is closed after the memberships.
        await asyncio.gather(*(membership.close() for membership in self._memberships))
        await asyncio.gather(*(reader.close() for reader in self._readers))
        await self._publisher.close()
        await self._topics.close()

    async def _existing(self, topic: str, partitions: Sequence[int] | None) -> Sequence[int]:
        count = await self._topics.count(topic)
        for partition in partitions or ():
            if not 0 <= partition < count:
                raise Misconfigured(f"topic {topic}", f"it has no partition {partition}", f"use 0 to {count - 1}")
        return range(count) if partitions is None else partitions

    async def _starts(
        self, topic: str, partitions: Sequence[int], start: int | Literal["earliest", "latest"]
    ) -> Mapping[int, int]:
        if isinstance(start, int):
            return dict.fromkeys(partitions, start)
        return await self._topics.offsets(topic, partitions, NEXT if start == "latest" else FIRST)
