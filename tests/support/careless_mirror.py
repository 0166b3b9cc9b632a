"""A mirror of topics whose source and target are the same cluster: it appends all records of a partition again.

Keys, values, headers and partitions are those of the originals; offsets and timestamps are new.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

from cluster import Cluster, await_true
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

GROUPS = {
    "requests": "agency-requests",
    "runs": "agency-runs",
    "groups": "taskgroup-groups",
    "tasks": "taskgroup-tasks",
}
"""The mirrored topics, and the consumer group of each."""


class Mirror:
    """Appends the records of an installation's topics again."""

    def __init__(self, cluster: Cluster, topics: Sequence[str] = tuple(GROUPS)) -> None:
        self.cluster = cluster
        self.topics = topics
        self._producer = Producer({"bootstrap.servers": cluster.brokers, "enable.idempotence": True})
        self._consumer = Consumer(
            {
                "bootstrap.servers": cluster.brokers,
                "group.id": f"mirror-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        self._admin = AdminClient({"bootstrap.servers": cluster.brokers})

    def append_again(self) -> int:
        """Append all records once more, in order; returns their number."""
        copied = 0
        for topic in self.topics:
            for partition, end in self._ends(topic).items():
                for record in self._records(TopicPartition(self.cluster.prefix + topic, partition, 0), end):
                    self._append(record)
                    copied += 1
        assert self._producer.flush(60) == 0
        return copied

    def is_consumed(self) -> bool:
        """True if the services have committed all records on the topics."""
        return all(self._committed(topic) >= sum(self._ends(topic).values()) for topic in self.topics)

    def close(self) -> None:
        self._consumer.close()

    def _append(self, record: Message) -> None:
        self._producer.produce(
            str(record.topic()),
            record.value(),
            key=record.key(),
            headers=record.headers(),
            partition=record.partition() or 0,
        )
        self._producer.poll(0)  # serves delivery reports, which would fill the queue

    def _ends(self, topic: str) -> dict[int, int]:
        name = self.cluster.prefix + topic
        found = self._consumer.list_topics(name, timeout=30).topics[name].partitions
        partitions = [TopicPartition(name, number) for number in found]
        return {each.partition: self._consumer.get_watermark_offsets(each, timeout=10)[1] for each in partitions}

    def _records(self, partition: TopicPartition, end: int) -> Iterator[Message]:
        """All records of a partition up to `end`."""
        self._consumer.assign([partition])
        got: list[Message] = []

        def is_read() -> bool:
            got.extend(each for each in self._consumer.consume(1_000, timeout=0.1) if each.error() is None)
            position = self._consumer.position([partition])[0].offset
            return end == 0 or position >= end

        await_true(is_read, 60, self.cluster.logs)
        # Records from `end` on are copies by this mirror, or new: copying them, too, would not end.
        return (each for each in got if (each.offset() or 0) < end)

    def _committed(self, topic: str) -> int:
        """The sum of the committed offsets of a topic's consumer group."""
        name, group = self.cluster.prefix + topic, self.cluster.prefix + GROUPS[topic]
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(name, number) for number in self._ends(topic)])
        found = self._admin.list_consumer_group_offsets([asked])[group].result().topic_partitions
        return sum(max(each.offset, 0) for each in found)
