"""The servers that the tests use: isolated by prefix, and damaged only by tests that own them."""

from __future__ import annotations

import pytest
import redis
from confluent_kafka.admin import AdminClient, NewTopic
from servers.finder import NamedServer
from servers.kafka_node import broker_answers
from servers.process import ServerHandle, ServerUnavailableError, free_port
from servers.redis_node import redis_answers


def _create_topic(brokers: str, name: str) -> None:
    client = AdminClient({"bootstrap.servers": brokers})
    client.create_topics([NewTopic(name, num_partitions=3, replication_factor=1)])[name].result(timeout=20)


def test_shared_broker_takes_a_topic_under_the_tests_own_prefix(kafka: str, prefix: str) -> None:
    _create_topic(kafka, f"{prefix}requests")

    topics = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics
    assert len(topics[f"{prefix}requests"].partitions) == 3


def test_a_killed_broker_comes_back_on_its_address_with_its_topics(broker_process: ServerHandle) -> None:
    _create_topic(broker_process.address, "kept")

    broker_process.kill()
    assert not broker_answers(broker_process.address)

    broker_process.start()
    topics = AdminClient({"bootstrap.servers": broker_process.address}).list_topics(timeout=10).topics
    assert "kept" in topics


def test_a_killed_redis_comes_back_empty(redis_process: ServerHandle) -> None:
    with redis.Redis.from_url(redis_process.address) as client:
        client.set("key", "value")

    redis_process.kill()
    assert not redis_answers(redis_process.address)

    redis_process.start()
    with redis.Redis.from_url(redis_process.address) as client:
        assert client.get("key") is None


@pytest.mark.server_settings(redis={"appendonly": "yes"})
def test_a_redis_with_an_append_only_file_comes_back_with_its_keys(redis_process: ServerHandle) -> None:
    with redis.Redis.from_url(redis_process.address) as client:
        client.set("key", "value")

    redis_process.kill()
    redis_process.start()

    with redis.Redis.from_url(redis_process.address) as client:
        assert client.get("key") == b"value"


def test_a_frozen_redis_answers_again_once_it_is_resumed(redis_process: ServerHandle) -> None:
    redis_process.pause()
    assert not redis_answers(redis_process.address)

    redis_process.resume()
    assert redis_answers(redis_process.address)


def test_shared_redis_keeps_prefixes_apart(redis_url: str, prefix: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.set(f"{prefix}key", "value", nx=True, ex=60)


def test_a_server_named_in_the_environment_is_never_damaged() -> None:
    named = NamedServer(f"127.0.0.1:{free_port()}")

    with pytest.raises(ServerUnavailableError, match="tests may not stop or damage it"):
        named.kill()
