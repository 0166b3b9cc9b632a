"""The broker in memory: topics, partitions and consumer groups, shared by its clients.

This is the log of the embedded mode, not a mock: it keeps records until they are trimmed or retention removes
them, stores positions, and gives each partition to one owner at a time. Bound to one event loop; not thread-safe.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

from anabranch.adapters.lifecycle import TopicPartition
from anabranch.adapters.limits import MAX_RECORD_BYTES, check_sizes
from anabranch.adapters.memory.group import ConsumerGroup, GroupMember
from anabranch.adapters.memory.partition import LogPartition
from anabranch.adapters.partitioner import partition_of
from anabranch.core.errors import Misconfigured
from anabranch.ports import Beginning, Outgoing, Standing, TopicSpec


class MemoryBroker:
    """Topics and groups of one process.

    `retention_bytes` limits the payload of each partition by removing the oldest records (None: no limit; the
    topic's `retention.bytes` takes precedence). `session_timeout`: seconds after which the partitions of a member
    that vanished move to others. `max_record_bytes`: limit of one record. `life` starts the incarnations of
    topics: another broker has another one.
    """

    def __init__(
        self,
        *,
        retention_bytes: int | None = None,
        session_timeout: float = 0.0,
        max_record_bytes: int = MAX_RECORD_BYTES,
        life: str = "",
    ) -> None:
        self.life = life
        self.session_timeout = session_timeout
        self.max_record_bytes = max_record_bytes
        self._retention_bytes = retention_bytes
        self._topics: dict[str, list[LogPartition]] = {}
        self._settings: dict[str, Mapping[str, str]] = {}
        self._incarnations: dict[str, int] = {}
        self._created = itertools.count(1)
        self._groups: dict[str, ConsumerGroup] = {}
        self._spread = itertools.count()
        self._names = itertools.count(1)

    def create(self, spec: TopicSpec) -> bool:
        """Create a topic; returns False if it exists. Raises Misconfigured if it has another partition count."""
        existing = self._topics.get(spec.name)
        if existing is None:
            retention = int(spec.config.get("retention.bytes", -1))
            self._settings[spec.name] = dict(spec.config)
            self._incarnations[spec.name] = next(self._created)
            limit = retention if retention >= 0 else self._retention_bytes
            self._topics[spec.name] = [LogPartition(spec.name, n, limit) for n in range(spec.partitions)]
            return True
        if len(existing) != spec.partitions:
            raise Misconfigured(
                f"topic {spec.name}",
                f"it has {len(existing)} partitions and {spec.partitions} are configured",
                f"configure {len(existing)}, or delete the topic: the count determines the partition of each key",
            )
        return False

    def settings_of(self, topic: str) -> Mapping[str, str]:
        """The settings of a topic. Raises Misconfigured if it does not exist."""
        self.partitions(topic)
        return self._settings[topic]

    def alter(self, topic: str, config: Mapping[str, str]) -> None:
        """Change some settings of a topic. Raises Misconfigured if the topic does not exist."""
        self._settings[topic] = {**self.settings_of(topic), **config}

    def incarnation(self, topic: str) -> str:
        """Creation number of a topic; a topic that was deleted and created again has another one."""
        self.partitions(topic)
        return f"{self.life}{self._incarnations[topic]}"

    def delete(self, topic: str) -> None:
        """Delete a topic, its records and the offsets that consumer groups committed in it."""
        del self._topics[topic]
        for group in self._groups.values():
            group.forget(topic)

    def beginnings(self, topic: str, partitions: Iterable[int]) -> dict[int, Beginning]:
        """The first record that each of these partitions keeps."""
        return {number: self.partition((topic, number)).beginning for number in partitions}

    def record_limit(self, topic: str) -> int:
        """Size limit in bytes of a record on a topic: its own `max.message.bytes`, else the default."""
        own = self.settings_of(topic).get("max.message.bytes")
        return self.max_record_bytes if own is None else min(self.max_record_bytes, int(own))

    def partitions(self, topic: str) -> list[LogPartition]:
        """The partitions of a topic. Raises Misconfigured if it does not exist."""
        try:
            return self._topics[topic]
        except KeyError:
            raise Misconfigured(f"topic {topic}", "it does not exist", "create it before it is used") from None

    def partition(self, where: TopicPartition) -> LogPartition:
        """One partition. Raises Misconfigured if the topic or the partition does not exist."""
        partitions = self.partitions(where[0])
        if not 0 <= where[1] < len(partitions):
            raise Misconfigured(
                f"topic {where[0]}",
                f"it has no partition {where[1]}",
                f"use 0 to {len(partitions) - 1}",
            )
        return partitions[where[1]]

    def append(self, records: Sequence[Outgoing], timestamp: float) -> list[int]:
        """Append records, all or none, and return their offsets."""
        check_sizes(records, self.record_limit)
        # All partitions are found before the first append, so that an unknown one refuses the whole call.
        places = [self._place(record) for record in records]
        return [place.append(record, timestamp) for place, record in zip(places, records, strict=True)]

    def trim(self, topic: str, partition: int, before_offset: int) -> None:
        """Remove the records of a partition below an offset; readers there continue at the oldest kept record."""
        self.partition((topic, partition)).trim(before_offset)

    def group(self, name: str) -> ConsumerGroup:
        """The group of this name, created at the first call."""
        if name not in self._groups:
            self._groups[name] = ConsumerGroup(name, self._places_of)
        return self._groups[name]

    def new_member(self, group: str, topics: Sequence[str], wake: Callable[[], None]) -> GroupMember:
        """Create a member with a unique name, which has not joined yet."""
        for topic in topics:
            self.partitions(topic)
        return GroupMember(f"{group}-{next(self._names)}", tuple(topics), wake)

    def lag(self, group: str, topic: str) -> dict[int, int]:
        """Number of records after the committed offset, or of all kept records if nothing was committed."""
        committed = self.group(group).committed
        behind = {}
        for partition in self.partitions(topic):
            position = committed.get((topic, partition.number))
            start = max(position.offset, partition.first) if position else partition.first
            behind[partition.number] = max(partition.end - start, 0)
        return behind

    def standing(self, group: str, topic: str, *, members: bool) -> dict[int, Standing]:
        """State of a group in each partition of a topic."""
        known = self.group(group)
        found = {}
        for partition in self.partitions(topic):
            where = (topic, partition.number)
            owner = known.owners.get(where)
            member = owner.name if members and owner is not None else None
            found[partition.number] = Standing(known.committed.get(where), partition.first, partition.end, member)
        return found

    def _place(self, record: Outgoing) -> LogPartition:
        if record.partition is not None:
            return self.partition((record.topic, record.partition))
        partitions = self.partitions(record.topic)
        if record.key is None:
            return partitions[next(self._spread) % len(partitions)]
        return partitions[partition_of(record.key, len(partitions))]

    def _places_of(self, topic: str) -> list[TopicPartition]:
        return [(topic, partition.number) for partition in self._topics.get(topic, ())]
