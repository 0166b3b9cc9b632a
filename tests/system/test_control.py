"""Pause, resume and cancel on separate processes, with owners that are killed while a run is paused."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, User, await_true
from requests_made import request, resolved

SUPPORT = Path(__file__).parents[1] / "support"
REACH_SECONDS = 2.0
"""Seconds until a cancel reaches an agent; more than the promised second, because the machine may be busy."""


@pytest.fixture
def own_cluster(kafka: str, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Cluster]:
    environ = {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(SUPPORT), os.environ.get("PYTHONPATH")))),
        "ANABRANCH_TEST_TRACE": str(tmp_path / "trace.txt"),
    }
    cluster = Cluster(tmp_path, kafka, redis_url, prefix, environ)
    try:
        cluster.start_all(workers=2, agents="system_agents", concurrency=8)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def user_of_own(own_cluster: Cluster) -> Iterator[User]:
    user = User(own_cluster)
    yield user
    user.close()


def traced_fan_out(count: int, seconds: float) -> dict[str, Any]:
    rules = {"sequence": {"n": {"start": 0, "end": count - 1}}}
    task = {
        "name": "t",
        "agent": "traced",
        "inputs": {"seconds": seconds, "value": "{n}"},
        "expansion_config": {"type": "custom", "transform_rules": rules},
        "result_keys": ["out"],
    }
    return request(task)


def calls(cluster: Cluster) -> list[str]:
    trace = cluster.folder / "trace.txt"
    return [line.split()[1] for line in trace.read_text().splitlines()] if trace.exists() else []


def status(cluster: Cluster, run: str) -> dict[str, Any]:
    shown = cluster.run("status", run, "--json")
    assert shown.returncode == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def test_a_pause_outlives_the_agency_and_every_owner(own_cluster: Cluster, user_of_own: User) -> None:
    """400 members of 200 ms. The command pauses the run; then the Agency and both TaskGroups are killed and
    replaced; nothing runs until a control record resumes it."""
    user, document = user_of_own, traced_fan_out(400, 0.2)
    user.produce(document)
    await_true(lambda: len(calls(own_cluster)) >= 40, 60, own_cluster.logs)

    paused = own_cluster.run("pause", document["request_id"], "--json")
    asked = time.monotonic()
    await_true(lambda: status(own_cluster, document["request_id"])["paused"], 20, own_cluster.logs)
    await_true(lambda: time.monotonic() - asked > 2, 10)
    started = len(calls(own_cluster))
    for process in [*own_cluster.of("agency"), *own_cluster.of("taskgroup")]:
        process.kill()
    others = [own_cluster.start("agency")]
    others += [own_cluster.start("taskgroup", "--agents", "system_agents", "--concurrency", "8") for _ in range(2)]
    for process in others:
        process.await_ready()
    await_true(lambda: time.monotonic() - asked > 14, 60)  # longer than the session timeout (8 s)

    assert paused.returncode == 0, paused.stderr
    assert 40 <= len(calls(own_cluster)) == started < 400
    assert status(own_cluster, document["request_id"])["paused"]

    user.produce({"type": "resume", "request_id": document["request_id"]})
    final = user.await_final(document["request_id"], 60).body
    assert final["status"] == "completed"
    assert resolved(user, final, "out") == list(range(400))
    assert sorted(calls(own_cluster)) == sorted(f"t_{n + 1}" for n in range(400))


@pytest.mark.parametrize("agent", ["hangs", "spins"])
def test_a_cancel_reaches_agents_in_every_process_within_a_second(
    cluster: Cluster, user: User, agent: str
) -> None:
    """`async` agents receive CancelledError, `def` agents see `task.cancelled`. Two workers run 64 members
    each."""
    expansion = {"type": "custom", "transform_rules": {"sequence": {"n": {"start": 0, "end": 1_599}}}}
    document = request({"name": "t", "agent": agent, "expansion_config": expansion, "result_keys": ["out"]})
    user.produce(document)
    run_id = user.await_records(
        lambda s: s.kind == "run.accepted" and s.body["request_id"] == document["request_id"]
    )[0].body["run_id"]
    await_true(lambda: len(noted(cluster, run_id, "began")) == 128, 60, cluster.logs)
    processes = {pid for _, pid in noted(cluster, run_id, "began")}

    user.produce({"type": "cancel", "request_id": document["request_id"]})
    asked = time.monotonic()
    await_true(lambda: len(noted(cluster, run_id, "stopped")) == 128, 20, cluster.logs)
    took = time.monotonic() - asked

    print(f"{agent}: all 128 members in {len(processes)} processes stopped after {took:.2f} s")
    assert user.await_final(document["request_id"], 10).body["status"] == "cancelled"
    assert took < REACH_SECONDS
    assert len(processes) == 2


def noted(cluster: Cluster, run_id: str, what: str) -> list[tuple[str, str]]:
    """The (event, process) pairs that members of a run recorded."""
    trace = cluster.folder / "trace.txt"  # the first member creates it
    lines = [line.split() for line in trace.read_text().splitlines()] if trace.exists() else []
    return [(line[1], line[2]) for line in lines if line[0] == run_id and line[1] == what]
