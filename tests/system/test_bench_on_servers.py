"""`bench` on running services: `--bytes` counts all records, and it detects whether workers have `bench.stamp`."""

from __future__ import annotations

import json
from typing import Any

from cluster import Cluster


def bench(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    done = cluster.run("bench", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_bytes_on_the_log_and_in_redis_are_those_of_the_chains(cluster: Cluster) -> None:
    """An idle installation adds nothing to the log, so twice as many chains have about twice as many bytes."""
    few, many = (bench(cluster, "chain", "--chains", str(count), "--bytes")["bytes"] for count in (2, 4))

    assert (few["members"], many["members"]) == (120, 240)
    assert few["log"] == sum(few["topics"].values())
    # Each chain has a request, a final record, and for each fan-out an offer and the reports of its members.
    for topic in ("requests", "runs", "groups", "tasks", "events", "results", "eventmanager-facts-changelog"):
        assert few["topics"][topic] > 200, topic
    assert few["topics"]["dead-letters"] == 0
    assert few["redis"] > 1_000
    assert 1.4 < many["log"] / few["log"] < 2.6
    assert 1.4 < many["redis"] / few["redis"] < 2.6


def test_workers_of_others_leave_the_times_of_events_until_one_stamps(cluster: Cluster) -> None:
    lag = ("join-lag", "--requests", "2", "--members", "3")

    assert bench(cluster, *lag)["clock"] == "events"

    for worker in cluster.of("taskgroup"):
        worker.terminate()
    cluster.start("taskgroup", "--agents", "anabranch.cli.bench.agents").await_ready()

    assert bench(cluster, *lag)["clock"] == "agents"
