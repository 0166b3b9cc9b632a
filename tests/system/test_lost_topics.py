"""Deleted and re-created topics, and records removed by retention, on real servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, User, await_true
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from edge_installation import ends_of, installation, start
from requests_made import echo, fan_out, request, resolved

from conformance import kafka_admin


@pytest.fixture
def broken(kafka: str, redis_url: str, tmp_path: Path) -> Iterator[Cluster]:
    """An installation for one test, without services, which the test may break."""
    cluster = installation(tmp_path, kafka, redis_url)
    try:
        yield cluster
    finally:
        cluster.stop()


def delete_and_create_topics(cluster: Cluster, *names: str) -> None:
    """Delete and create all topics of an installation, or the named ones; Redis keeps its data."""
    admin = AdminClient({"bootstrap.servers": cluster.brokers})
    topics = [name for name in admin.list_topics(timeout=30).topics if name.startswith(cluster.prefix)]
    kafka_admin.delete(admin, [cluster.prefix + name for name in names] or topics)

    def created() -> bool:
        return cluster.run("topics", "create").returncode == 0

    await_true(created, 60)


def await_started(user: User, request_id: str) -> None:
    """Wait until a task of this request has started: all records of its run are on the log by then."""
    wanted = request_id.encode()
    user.await_records(lambda s: s.topic == "events" and b"task.started" in s.value and wanted in s.value)


def done(futures: Mapping[Any, Future[Any]]) -> None:
    for future in futures.values():
        future.result(60)


@pytest.mark.parametrize("stopped", [True, False], ids=["services stopped", "services running"])
def test_services_continue_after_the_topics_were_recreated(broken: Cluster, stopped: bool) -> None:
    """Fences and marks in Redis are of the old topics; their epochs are higher than any of the new ones."""
    services = start(broken, "agency", "taskgroup")
    user = User(broken)
    assert user.run(request(fan_out(10_000), session_id="kept"))["status"] == "completed"
    assert services.pop().terminate() == 0
    services += start(broken, "taskgroup")  # its claim follows all of these records
    assert user.run(request(fan_out(40), session_id="kept"))["status"] == "completed"
    for _ in range(12):  # positions in all partitions of `runs` are beyond the end of the new topics
        assert user.run(request(echo("before"), session_id="kept"))["status"] == "completed"
    user.close()
    if stopped:
        for service in services:
            assert service.terminate() == 0
    delete_and_create_topics(broken)
    if stopped:
        start(broken, "agency", "taskgroup")
    user = User(broken)

    final = user.run(request(fan_out(40), session_id="kept"), 90)

    assert final["status"] == "completed"
    assert resolved(user, final, "out") == list(range(40))
    user.close()


def test_topics_with_few_records_that_are_recreated_under_running_services_are_read_from_their_start(
    broken: Cluster,
) -> None:
    """The positions of readers exist in the new topics, so nothing is out of range, and earlier records would be
    skipped. Meanwhile the services are frozen, so that the new topics have records when they check."""
    services = start(broken, "agency", "taskgroup")
    user = User(broken)
    for _ in range(4):
        assert user.run(request(echo("before")))["status"] == "completed"
    user.close()
    for service in services:
        service.suspend()
    delete_and_create_topics(broken)
    user = User(broken)
    documents = [request(fan_out(3)) for _ in range(24)]
    for document in documents:
        user.produce(document)
    for service in services:
        service.resume()

    finals = [user.await_final(document["request_id"], 60).body for document in documents]

    assert [(final["status"], final["failures"]) for final in finals] == [("completed", [])] * len(documents)
    user.close()


@pytest.mark.parametrize("lost", ["runs", "groups"])
def test_a_run_that_is_open_while_a_topic_is_recreated_ends_as_lost(
    broken: Cluster, lost: str, tmp_path: Path
) -> None:
    """The owner that knew the run queries it in the new topic."""
    start(broken, "agency", "taskgroup")
    user = User(broken)
    assert user.run(request(echo("before")))["status"] == "completed"
    waits = {"name": "t", "agent": "waits", "inputs": {"until": str(tmp_path / "never"), "value": 1}}
    document = request(waits | {"result_keys": ["out"]}, timeout=600)
    user.produce(document)
    await_started(user, document["request_id"])
    delete_and_create_topics(broken, lost)

    final = user.await_final(document["request_id"], 60).body

    assert (final["status"], final["failures"][0]["error_type"]) == ("failed", "RunLost")
    assert user.run(request(echo("later")))["status"] == "completed"
    user.close()


@pytest.mark.parametrize("ends_by", ["cancel", "timeout"])
def test_a_run_whose_records_are_gone_ends_as_lost(broken: Cluster, ends_by: str, tmp_path: Path) -> None:
    """Retention removed the records of an open run, then its session's owner died: the next one does not know
    it."""
    [_, worker] = start(broken, "agency", "taskgroup")
    user = User(broken)
    waits = {"name": "t", "agent": "waits", "inputs": {"until": str(tmp_path / "never"), "value": 1}}
    document = request(waits | {"result_keys": ["out"]}, timeout=8 if ends_by == "timeout" else 600)
    user.produce(document)
    await_started(user, document["request_id"])
    admin = AdminClient({"bootstrap.servers": broken.brokers})
    ends = [TopicPartition(broken.prefix + "groups", *place) for place in ends_of(user, "groups").items()]
    worker.kill()
    done(admin.delete_records(ends))
    start(broken, "taskgroup")
    if ends_by == "cancel":
        user.produce({"type": "cancel", "request_id": document["request_id"]})

    final = user.await_final(document["request_id"], 60).body

    assert (final["status"], final["failures"][0]["error_type"]) == ("failed", "RunLost")
    assert "retention" in final["failures"][0]["message"]
    assert user.run(request(echo("later")))["status"] == "completed"
    user.close()
