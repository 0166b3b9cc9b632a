"""Administers topics of a Kafka for the log tests. Each call waits until the change is visible."""

from __future__ import annotations

from typing import Any

from cluster import await_true
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)


def alter(brokers: str, topic: str, limit: int) -> None:
    """Set `max.message.bytes` of a topic."""
    entry = ConfigEntry("max.message.bytes", str(limit), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": brokers})  # while it is referred to, its answers come
    _done(admin.incremental_alter_configs([resource]))


def create_again(brokers: str, topic: str) -> None:
    """Delete a topic, and create it with one partition."""
    admin = AdminClient({"bootstrap.servers": brokers})
    delete(admin, [topic])
    _done(admin.create_topics([NewTopic(topic, 1)]))
    await_true(lambda: topic in admin.list_topics(timeout=30).topics, 30)


def trim(brokers: str, topic: str, before: int) -> None:
    """Remove the records of a topic's first partition below an offset."""
    admin = AdminClient({"bootstrap.servers": brokers})
    _done(admin.delete_records([TopicPartition(topic, 0, before)]))


def delete(admin: AdminClient, topics: list[str]) -> None:
    """Delete topics and wait until no broker lists them any more."""
    _done(admin.delete_topics(topics, operation_timeout=30))
    await_true(lambda: not set(topics) & set(admin.list_topics(timeout=30).topics), 60)


def _done(futures: dict[Any, Any]) -> None:
    for future in futures.values():
        future.result(60)
