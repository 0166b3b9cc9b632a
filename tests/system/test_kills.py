"""SIGKILL during a fan-out: the run completes, and each index is exactly once in its result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import FINAL, Cluster, User
from requests_made import fan_out_of_sleeps, resolved


@pytest.fixture
def own_cluster(kafka: str, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, kafka, redis_url, prefix)
    try:
        cluster.start_all(workers=2, concurrency=8)
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.parametrize(("service", "which"), [("taskgroup", 0), ("taskgroup", 1), ("agency", 0)])
def test_a_kill_during_a_fan_out_loses_no_member_and_repeats_none_in_the_result(
    own_cluster: Cluster, service: str, which: int
) -> None:
    """2,000 members of 20 ms on two workers of 8; SIGKILL after the first ones ended; at most 30 s more.

    One of the workers owns the session, the other only works: each is killed in a separate test.
    """
    user = User(own_cluster)
    document = fan_out_of_sleeps(2_000, 0.02)
    user.produce(document)
    user.await_records(lambda s: s.topic == "events" and b"task.completed" in s.value)

    own_cluster.of(service)[which].kill()
    killed = time.monotonic()
    assert not any(seen.kind in FINAL for seen in user.seen), "too late: the run had ended"
    if service == "agency":
        own_cluster.start("agency")
    final = user.await_final(document["request_id"], 30).body

    print(f"{service} {which}: completed {time.monotonic() - killed:.1f} s after the kill")
    assert final["status"] == "completed"
    assert resolved(user, final, "out") == list(range(2_000))
    user.close()
