"""Workers that are stopped under load, as by an autoscaler: they end what they hold, and no member runs twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import FINAL, Cluster, Process, User, await_true, cluster_with_agents
from effects import effects
from requests_made import fan_out, request

MEMBERS = 20_000
DRAIN_SECONDS = 25.0

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def three_workers(kafka: str, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Cluster]:
    cluster = cluster_with_agents(
        tmp_path, kafka, redis_url, prefix, ANABRANCH_DRAIN_SECONDS=f"{DRAIN_SECONDS:g}s"
    )
    try:
        cluster.start_all(workers=3, agents="system_agents", concurrency=16)
        yield cluster
    finally:
        cluster.stop()


def _begun(cluster: Cluster) -> Counter[str]:
    """How often each member began."""
    return Counter(each.key for each in effects(cluster.folder, "scale") if each.what == "began")


def _stopped(process: Process) -> float:
    """SIGTERM to a worker; returns the seconds that it took to end."""
    began = time.monotonic()
    assert process.terminate() == 0, process.log.read_text()
    assert b"was not drained within" not in process.log.read_bytes()
    return time.monotonic() - began


def test_workers_that_are_stopped_in_turn_repeat_no_member(three_workers: Cluster) -> None:
    """20,000 members of 20 ms on three workers of 16 slots; SIGTERM to one, then to another, amid them. The first
    is of those that may own the session, and the last one ends the run alone."""
    cluster, user = three_workers, User(three_workers)
    task = fan_out(MEMBERS) | {"agent": "effect", "inputs": {"mark": "scale", "seconds": 0.02, "value": "{n}"}}
    document = request(task)
    user.produce(document)
    took = []
    for part in (0.1, 0.3):
        await_true(lambda part=part: len(_begun(cluster)) > part * MEMBERS, 300, cluster.logs)  # type: ignore[misc]
        took.append(_stopped(cluster.of("taskgroup")[0]))
    user.read()
    assert not any(seen.kind in FINAL for seen in user.seen), "too late: the run had ended"

    final = user.await_final(document["request_id"], 300).body

    print(f"stopped after {took} s")
    assert (final["status"], final["executions"]["completed"]) == ("completed", MEMBERS)
    times = Counter(_begun(cluster).values())
    assert times == {1: MEMBERS}, f"members by how often they began: {dict(times)}"
    assert max(took) < DRAIN_SECONDS + 10
    user.close()
