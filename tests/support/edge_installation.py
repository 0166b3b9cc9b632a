"""An installation for tests of limits and data loss: its topics, its services, and the positions of its owners."""

from __future__ import annotations

import os
from pathlib import Path

from cluster import Cluster, Process, User
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

SUPPORT = Path(__file__).parent
ENVIRON = {"PYTHONPATH": str(SUPPORT), "CI": "", "ANABRANCH_PARTITIONS": "2", "ANABRANCH_LOSS_WINDOW": "0.5s"}
WORKER = ("--agents", "edge_agents", "--concurrency", "32")


def installation(folder: Path, kafka: str, redis_url: str, **environ: str) -> Cluster:
    """The topics of a separate installation, without services."""
    prefix = f"e{os.getpid()}x{os.urandom(3).hex()}."
    cluster = Cluster(folder, kafka, redis_url, prefix, ENVIRON | environ)
    created = cluster.run("topics", "create")
    assert created.returncode == 0, created.stderr
    return cluster


def start(cluster: Cluster, *services: str) -> list[Process]:
    """Start services in parallel, and wait until all are ready."""
    started = [cluster.start(each, *(WORKER if each == "taskgroup" else ())) for each in services]
    for process in started:
        process.await_ready()
    return started


def ends_of(user: User, topic: str) -> dict[int, int]:
    """The offset of the next record of each partition."""
    partitions = [TopicPartition(user.cluster.prefix + topic, number) for number in range(2)]
    return {place.partition: user.consumer.get_watermark_offsets(place, timeout=10)[1] for place in partitions}


def committed(cluster: Cluster, service: str, topic: str) -> list[TopicPartition]:
    """The committed offsets of a topic's owners."""
    admin = AdminClient({"bootstrap.servers": cluster.brokers})
    group = f"{cluster.prefix}{service}-{topic}"
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(cluster.prefix + topic, n) for n in range(2)])
    found: list[TopicPartition] = admin.list_consumer_group_offsets([asked])[group].result().topic_partitions
    return found
