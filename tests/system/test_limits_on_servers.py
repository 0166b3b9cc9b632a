"""Limits that runs share on real servers: they hold while owners are killed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cluster import Cluster, User
from requests_made import request

Start = Callable[..., Cluster]


@pytest.fixture
def own_cluster(start: Start, kafka: str, redis_url: str) -> Cluster:
    return start(kafka, redis_url)


def members(count: int, mark: str, seconds: float, **limits: Any) -> dict[str, Any]:
    rules = {"sequence": {"n": {"start": 1, "end": count}}}
    task = {"name": "t", "agent": "effect", "inputs": {"mark": mark, "seconds": seconds, "value": 1}}
    return {**task, "expansion_config": {"type": "custom", "transform_rules": rules}, **limits}


def notes_of(cluster: Cluster, mark: str) -> list[dict[str, Any]]:
    lines = (cluster.folder / "effects.jsonl").read_text().splitlines()
    return [note for note in map(json.loads, lines) if note["mark"] == mark]


def most_at_once(notes: list[dict[str, Any]], killed: dict[int, float]) -> int:
    """Members that ran at once; those of a killed process end with it."""
    ends = {(note["pid"], note["key"]): note["at"] for note in notes if note["what"] == "ended"}
    changes = []
    for note in notes:
        if note["what"] == "began":
            place = note["pid"], note["key"]
            changes += [(note["at"], 1), (ends.get(place, killed.get(note["pid"], float("inf"))), -1)]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def test_a_key_of_three_never_runs_four_while_owners_are_killed(own_cluster: Cluster) -> None:
    user = User(own_cluster)
    documents = [request(members(15, "key", 0.3, concurrency={"key": "db", "limit": 3})) for _ in range(3)]
    for document in documents:
        user.produce(document)
    user.await_records(lambda s: s.topic == "events" and b"task.completed" in s.value)
    killed: dict[int, float] = {}
    for service in ("agency", "taskgroup"):
        process = own_cluster.of(service)[0]
        process.kill()
        killed[process.popen.pid] = time.time()
        own_cluster.start(service, *(("--agents", "system_agents") if service == "taskgroup" else ()))
        time.sleep(3)

    finals = [user.await_final(document["request_id"], 120).body for document in documents]

    assert {final["status"] for final in finals} == {"completed"}
    assert most_at_once(notes_of(own_cluster, "key"), killed) == 3
    user.close()


def test_a_rate_holds_within_one_window_of_a_burst(own_cluster: Cluster) -> None:
    user = User(own_cluster)
    rate = {"key": "provider", "limit": 10, "per": "1s", "burst": 5}
    documents = [request(members(20, "rate", 0, rate_limit=rate)) for _ in range(2)]
    for document in documents:
        user.produce(document)

    finals = [user.await_final(document["request_id"], 120).body for document in documents]

    assert {final["status"] for final in finals} == {"completed"}
    began = sorted(note["at"] for note in notes_of(own_cluster, "rate") if note["what"] == "began")
    assert len(began) == 40
    assert began[-1] - began[0] >= 3.0
    assert max(sum(at <= each < at + 1.0 for each in began) for at in began) <= 25
    user.close()
