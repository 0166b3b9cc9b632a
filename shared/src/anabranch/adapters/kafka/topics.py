"""Administration of topics: creates them, reads partition counts, settings, offsets and lag.

Every call has a time limit. No records are read or written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from anabranch.adapters.kafka.config import KafkaSettings
from anabranch.adapters.kafka.faults import error_of, is_denied, translate, unreachable
from anabranch.adapters.kafka.logs import LOGGER, on_error
from anabranch.adapters.kafka.positions import GroupPositions
from anabranch.core.errors import Misconfigured, ServerUnavailable
from anabranch.ports import Beginning, Committed, Standing, TopicSpec

_BROKERS_DEFAULT = -1
_SETTLE_PAUSE = 0.02
# With the pauses, two seconds and the time of the requests.
OFFSET_ATTEMPTS = 100
_NO_LEADER_YET = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
}


FIRST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
NEXT: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
ANY_TIME: OffsetSpec = OffsetSpec.for_timestamp(0)
"""Offset spec: the first record since 1970. Unlike FIRST, its response has the time of the record too."""


class KafkaTopics:
    """The administrative client of one log. `timeout`: seconds for each response."""

    def __init__(self, settings: KafkaSettings, timeout: float) -> None:
        self._brokers = settings.brokers
        self._timeout = timeout
        self._admin = AdminClient(settings.admin() | {"error_cb": self._note}, logger=LOGGER)
        self._groups = GroupPositions(settings, timeout)
        self._seen: KafkaError | None = None
        self._counts: dict[str, int] = {}

    async def close(self) -> None:
        """Close the clients that read positions of groups."""
        await self._groups.close()

    async def reach(self) -> None:
        """Check the connection. Raises ServerUnavailable if no broker responds in time, Misconfigured if one
        denies access."""
        await self._all_counts()

    def _note(self, error: KafkaError) -> None:
        """Keep the reason of a failed connection, which the call that waits for the connection does not report."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN and (self._seen is None or is_denied(error)):
            self._seen = error
        on_error(error)

    async def create(self, topics: Sequence[TopicSpec]) -> Sequence[str]:
        """See `ports.EventLog.create_topics`."""
        existing = await self._all_counts()
        missing = [spec for spec in topics if spec.name not in existing]
        created = await self._create(missing) if missing else []
        counts = await self._settled(topics) if missing else existing
        # The metadata of other brokers may lack new topics for a while, so the counts of the creation are used.
        self._counts.update(counts)
        for spec in topics:
            if counts[spec.name] != spec.partitions:
                raise Misconfigured(
                    f"topic {spec.name}",
                    f"it has {counts[spec.name]} partitions and {spec.partitions} are configured",
                    f"configure {counts[spec.name]}, or delete the topic: the count decides where keys are stored",
                )
        return created

    async def count(self, topic: str) -> int:
        """See `ports.EventLog.partition_count`; cached, because counts are fixed."""
        if topic not in self._counts:
            self._counts.update(await self._all_counts())
        if topic not in self._counts:
            await self._refuse_denied(topic)
            raise Misconfigured(f"topic {topic}", "it does not exist", "create it before it is used")
        return self._counts[topic]

    async def settings_of(self, topic: str) -> Mapping[str, str]:
        """See `ports.EventLog.topic_settings`. An installation may forbid reading them."""
        asked = [ConfigResource(ConfigResource.Type.TOPIC, topic)]

        def ask() -> Future[Any]:
            [future] = self._admin.describe_configs(asked, request_timeout=self._timeout).values()
            return future

        try:
            found = await self._of_known_topic(topic, ask)
        except KafkaException as refused:
            if error_of(refused).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                return {}
            raise translate(error_of(refused), self._brokers, f"asking for the settings of {topic}") from refused
        return {name: str(entry.value) for name, entry in found.items() if entry.value is not None}

    async def incarnation(self, topic: str) -> str:
        """See `ports.EventLog.incarnation`. Brokers before Kafka 2.8 have no topic ids."""

        def ask() -> Future[Any]:
            return self._admin.describe_topics(TopicCollection([topic]), request_timeout=self._timeout)[topic]

        try:
            described = await self._of_known_topic(topic, ask)
        except KafkaException as refused:
            raise translate(error_of(refused), self._brokers, f"topic {topic}") from refused
        return "" if described.topic_id is None else str(described.topic_id)

    async def _of_known_topic(self, topic: str, ask: Callable[[], Future[Any]]) -> Any:
        """Metadata of a topic. Retries while a broker does not have the topic in its metadata yet."""
        for _ in range(OFFSET_ATTEMPTS):
            try:
                return await asyncio.wrap_future(ask())
            except KafkaException as refused:
                # Only of a topic that existed before is it certain that the broker's metadata are out of date.
                if topic not in self._counts or error_of(refused).code() not in _NO_LEADER_YET:
                    raise
                last = refused
            await asyncio.sleep(_SETTLE_PAUSE)
        raise last

    async def _refuse_denied(self, topic: str) -> None:
        """Raises Misconfigured for a topic that this user may not see, which the list of all topics leaves out."""
        futures = self._admin.describe_topics(TopicCollection([topic]), request_timeout=self._timeout)
        try:
            await asyncio.wrap_future(futures[topic])
        except KafkaException as refused:
            if is_denied(error_of(refused)):
                raise translate(error_of(refused), self._brokers, f"topic {topic}") from refused

    async def offsets(self, topic: str, partitions: Iterable[int], spec: OffsetSpec) -> dict[int, int]:
        """The first or the next offset of partitions."""
        found = await self._offset_infos(topic, partitions, spec)
        return {number: info.offset for number, info in found.items()}

    async def _offset_infos(self, topic: str, partitions: Iterable[int], spec: OffsetSpec) -> dict[int, Any]:
        """Offsets of partitions from the brokers.

        Retried, because the leaders of a new topic need a moment. After a broker has restarted, the metadata in
        the client's cache has old leader epochs, which the broker refuses: the client does not fetch it again by
        itself.
        """
        wanted = {TopicPartition(topic, partition): spec for partition in partitions}
        if not wanted:
            return {}
        for _ in range(OFFSET_ATTEMPTS):
            try:
                return await self._offsets_once(wanted)
            except KafkaException as refused:
                error = error_of(refused)
            if error.code() not in _NO_LEADER_YET:
                break
            await self._all_counts()  # fetches the leaders; a request for one topic might create it
            await asyncio.sleep(_SETTLE_PAUSE)
        raise translate(error, self._brokers, f"asking for offsets of {topic}")

    async def beginnings(self, topic: str, partitions: Collection[int]) -> Mapping[int, Beginning]:
        """See `ports.EventLog.beginnings`. Topic ids would be more exact, but librdkafka may abort the process if
        a broker goes away during such a request, which is certain in the long run with one every few seconds."""
        found = await self._offset_infos(topic, partitions, ANY_TIME)
        empty = [number for number, info in found.items() if info.offset < 0]
        # Read last, so that a record appended meanwhile is not skipped.
        first = await self.offsets(topic, empty, FIRST)
        return {
            number: Beginning(first[number], None)
            if number in first
            else Beginning(info.offset, info.timestamp / 1000)
            for number, info in found.items()
        }

    async def lag(self, group: str, topic: str) -> Mapping[int, int]:
        """See `ports.EventLog.group_lag`."""
        first, end, committed = await self._positions(group, topic)
        return {number: Standing(committed[number], first[number], end[number], None).lag for number in end}

    async def standing(self, group: str, topic: str, *, members: bool) -> Mapping[int, Standing]:
        """See `ports.EventLog.group_standing`."""
        first, end, committed = await self._positions(group, topic)
        readers = await self._members(group, topic) if members else {}
        return {
            number: Standing(committed[number], first[number], end[number], readers.get(number)) for number in end
        }

    async def _positions(
        self, group: str, topic: str
    ) -> tuple[dict[int, int], dict[int, int], dict[int, Committed | None]]:
        partitions = range(await self.count(topic))
        return await asyncio.gather(
            self.offsets(topic, partitions, FIRST),
            self.offsets(topic, partitions, NEXT),
            self._groups.committed(group, [TopicPartition(topic, partition) for partition in partitions]),
        )

    async def _members(self, group: str, topic: str) -> dict[int, str]:
        """The member of each partition; empty for a group without members. For short-lived tools only: librdkafka
        may abort the process if a broker goes away meanwhile, see `positions`."""
        futures = self._admin.describe_consumer_groups([group], request_timeout=self._timeout)
        described = await self._answer(futures[group], f"members of group {group}")
        return {
            place.partition: f"{member.member_id} on {member.host}"
            for member in described.members
            if member.assignment is not None
            for place in member.assignment.topic_partitions
            if place.topic == topic
        }

    async def _offsets_once(self, wanted: Mapping[TopicPartition, OffsetSpec]) -> dict[int, Any]:
        futures = self._admin.list_offsets(dict(wanted), request_timeout=self._timeout)
        answers = await asyncio.gather(*(asyncio.wrap_future(future) for future in futures.values()))
        return {place.partition: answer for place, answer in zip(futures, answers, strict=True)}

    async def _create(self, specs: Sequence[TopicSpec]) -> list[str]:
        futures = self._admin.create_topics(
            [_new(spec) for spec in specs],
            request_timeout=self._timeout,
        )
        created = []
        for name, future in futures.items():
            try:
                await asyncio.wrap_future(future)
            except KafkaException as refused:
                # Another process may create the same topics at the same time.
                if error_of(refused).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise translate(error_of(refused), self._brokers, f"creating topic {name}") from refused
            else:
                created.append(name)
        return created

    async def _settled(self, topics: Sequence[TopicSpec]) -> Mapping[str, int]:
        """Wait until the brokers' metadata has every topic, with a leader for each partition."""
        counts: Mapping[str, int] = {}
        for _ in range(int(self._timeout / _SETTLE_PAUSE)):
            counts = await self._all_counts()
            if all(spec.name in counts for spec in topics):
                return counts
            await asyncio.sleep(_SETTLE_PAUSE)
        waiting = ", ".join(spec.name for spec in topics if spec.name not in counts)
        raise ServerUnavailable("Kafka", self._brokers, f"new topics have no leader yet: {waiting}")

    async def _all_counts(self) -> dict[str, int]:
        """Partition counts of all usable topics. Requesting one by name could create it on the broker."""
        self._admin.poll(0)  # serves the client's log lines
        try:
            metadata = await asyncio.to_thread(self._admin.list_topics, timeout=self._timeout)
        except KafkaException as refused:
            # The events of the failed request, which have the reason, are still queued.
            self._admin.poll(0)
            raise unreachable(self._brokers, self._timeout, error_of(refused).str(), self._seen) from refused
        self._seen = None
        return {
            name: len(topic.partitions)
            for name, topic in metadata.topics.items()
            if topic.partitions and all(part.leader >= 0 for part in topic.partitions.values())
        }

    async def _answer(self, future: Future[Any], what: str) -> Any:
        try:
            return await asyncio.wrap_future(future)
        except KafkaException as refused:
            raise translate(error_of(refused), self._brokers, what) from refused


def _new(spec: TopicSpec) -> NewTopic:
    copies = _BROKERS_DEFAULT if spec.replication_factor is None else spec.replication_factor
    return NewTopic(spec.name, spec.partitions, copies, config=dict(spec.config))
