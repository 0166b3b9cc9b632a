"""Agents of a file on separate processes: members are processes of their workers, one of which is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, User, await_true, cluster_with_agents
from requests_made import request

MEMBERS = 24
SCRIPT = 'echo "$ANABRANCH_MEMBER" >> "$STARTS"; sleep 1; cat "$ANABRANCH_INPUT" > "$ANABRANCH_OUTPUT"'


@pytest.fixture
def processes(kafka: str, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Cluster]:
    """Two workers with an agent `copy` that is a process."""
    agent = {"kind": "process", "command": ["sh", "-c", SCRIPT], "env": {"STARTS": str(tmp_path / "starts")}}
    (tmp_path / "agents.json").write_text(json.dumps({"copy": agent}))
    cluster = cluster_with_agents(
        tmp_path,
        kafka,
        redis_url,
        prefix,
        ANABRANCH_EXECUTORS="process",
        ANABRANCH_AGENT_FILES=str(tmp_path / "agents.json"),
        ANABRANCH_PROCESS_CONCURRENCY="4",
    )
    try:
        cluster.start_all(workers=2)
        yield cluster
    finally:
        cluster.stop()


def test_members_are_processes_and_survive_the_death_of_their_worker(processes: Cluster, tmp_path: Path) -> None:
    config = {"type": "array", "array_mapping": {"n": list(range(MEMBERS))}}
    task = {"name": "t", "agent": "copy", "inputs": {"n": "{n}"}, "result_keys": ["t"], "expansion_config": config}
    document, starts = request(task), tmp_path / "starts"
    user = User(processes)
    user.produce(document)

    await_true(lambda: starts.is_file() and len(starts.read_text().splitlines()) >= 6, 120)
    processes.replace(processes.of("taskgroup")[0])
    final = user.await_final(document["request_id"])
    user.close()

    assert final.body["status"] == "completed"
    assert final.body["results"]["t"] == [{"n": n} for n in range(MEMBERS)]
    assert len(set(starts.read_text().split())) == MEMBERS
