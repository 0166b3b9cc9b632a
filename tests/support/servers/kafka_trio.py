"""A Kafka cluster of three brokers, each of them a controller too; every partition has a replica on all three.

Two of the three have to run: one alone has no majority of controllers, and fewer replicas than
`min.insync.replicas`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from servers.kafka_node import kafka_node
from servers.process import LOOPBACK, ServerProcess, free_port

SETTINGS: Mapping[str, str] = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    # The three share a busy machine with all services: a slow broker must not be fenced.
    "broker.session.timeout.ms": "6000",
    "controller.quorum.election.timeout.ms": "2000",
    "controller.quorum.fetch.timeout.ms": "5000",
}


@dataclass(frozen=True)
class KafkaTrio:
    """The brokers; `address` lists all of them."""

    brokers: Sequence[ServerProcess]

    @property
    def address(self) -> str:
        return ",".join(broker.address for broker in self.brokers)

    def start(self) -> None:
        """Start all brokers, or those that are not running, in parallel."""
        begun = [broker for broker in self.brokers if broker.pid is None]
        for broker in begun:
            broker.begin()
        for broker in begun:
            broker.await_answer()

    def stop(self) -> None:
        for broker in self.brokers:
            broker.kill()

    def is_in_sync(self) -> bool:
        """True if every partition has all three replicas in sync."""
        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0, "error_cb": lambda _: None})
        try:
            found = client.list_topics(timeout=2.0)
        except KafkaException:
            return False
        partitions = [each for topic in found.topics.values() for each in topic.partitions.values()]
        return len(found.brokers) == len(self.brokers) and all(len(each.isrs) == 3 for each in partitions)


def kafka_trio(directory: Path) -> KafkaTrio:
    """A cluster for one test, not started yet. Raises ServerUnavailableError without Java."""
    controllers = {number: f"{LOOPBACK}:{free_port()}" for number in (1, 2, 3)}
    nodes = [
        kafka_node(directory / f"node{number}", settings=SETTINGS, number=number, controllers=controllers)
        for number in controllers
    ]
    return KafkaTrio(nodes)
