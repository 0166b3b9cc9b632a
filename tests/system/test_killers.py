"""A member that always kills its process: it is identified, and fails alone. Processes are started again."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, User
from requests_made import resolved

SUPPORT = Path(__file__).parents[1] / "support"
MEMBERS = 500
KILLER = 321


class Supervisor:
    """Restarts a TaskGroup whenever it has ended, as a service manager does."""

    def __init__(self, cluster: Cluster, workers: int, agents: str) -> None:
        self.deaths = 0
        self._agents = agents
        self._cluster = cluster
        self._workers = workers
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            for _ in range(self._workers - len(self._cluster.of("taskgroup"))):
                self.deaths += 1
                self._cluster.start("taskgroup", "--concurrency", "8", "--agents", self._agents)

    def stop(self) -> None:
        self._done.set()
        self._thread.join()


@pytest.fixture
def supervised(
    kafka: str, redis_url: str, prefix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Cluster, Supervisor]]:
    """Two workers with the test's agents and short leases: a death is detected after about 2 s."""
    environ = {
        "PYTHONPATH": str(SUPPORT),
        "ANABRANCH_TEST_TRACE": str(tmp_path / "trace.txt"),
        "ANABRANCH_WORKER_LEASE": "1.5s",
    }
    cluster = Cluster(tmp_path, kafka, redis_url, prefix, environ)
    try:
        cluster.start_all(workers=2, agents=request.param, concurrency=8)
        supervisor = Supervisor(cluster, 2, request.param)
        try:
            yield cluster, supervisor
        finally:
            supervisor.stop()
    finally:
        cluster.stop()


def with_a_killer(tolerated: int, max_deliveries: int) -> dict[str, Any]:
    items: list[Any] = [f"item {number}" for number in range(MEMBERS)]
    items[KILLER] = "killer"
    task = {
        "name": "out",
        "agent": "deadly",
        "inputs": "{item}",
        "dependencies": ["items"],
        "result_keys": ["out"],
        "expansion_config": {"type": "array", "array_mapping": {"item": "items"}},
        "tolerated_failures": tolerated,
        "max_deliveries": max_deliveries,
    }
    return {"context": {"items": items}, "task_groups": [{"name": "g", "tasks": [task]}]}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("supervised", ["system_agents"], indirect=True)
def test_one_killer_among_500_members_fails_alone(supervised: tuple[Cluster, Supervisor], tmp_path: Path) -> None:
    """Two runs in sequence: the first tolerates a failure, the second does not.

    The killer calls `os._exit`, so nothing is flushed, committed or logged. It costs one fast delivery, one
    careful delivery, and `max_deliveries` deliveries alone; and one more if it began before its chunk was claimed.
    """
    cluster, supervisor = supervised
    user = User(cluster)
    before = 0
    for tolerated, status, max_deliveries in ((1, "completed", 2), (0, "failed", 1)):
        began = time.monotonic()
        final = user.run(with_a_killer(tolerated, max_deliveries), seconds=110)
        print(f"{status} after {time.monotonic() - began:.0f} s, {supervisor.deaths - before} processes died")

        assert final["status"] == status
        assert final["executions"] == {"total": 500, "completed": 499, "failed": 1, "skipped": 0}
        [failure] = final["failures"]
        assert (failure["index"], failure["error_type"]) == (KILLER, "WorkerLost")
        expected = [f"item {number}" for number in range(MEMBERS) if number != KILLER]
        assert resolved(user, final, "out") == expected
        deaths, before = supervisor.deaths - before, supervisor.deaths
        assert deaths in (2 + max_deliveries, 3 + max_deliveries)
        _killer_has_a_dead_letter(user, final["run_id"], max_deliveries)
        _others_ran_once_for_each_death_among_others(tmp_path, final["run_id"], deaths, max_deliveries)
    user.close()


def _killer_has_a_dead_letter(user: User, run_id: str, deliveries: int) -> None:
    [dead_letter] = user.await_records(lambda seen: seen.topic == "dead-letters" and seen.key == run_id)
    body = json.loads(dead_letter.value)
    assert (body["index"], body["deliveries"], body["error_type"]) == (KILLER, deliveries, "WorkerLost")
    assert dead_letter.headers["anabranch_code"] == b"member_failed"


def _others_ran_once_for_each_death_among_others(
    folder: Path, run_id: str, deaths: int, max_deliveries: int
) -> None:
    """Other members of its chunk ran once, again after the first death (or two), and at most once alone."""
    lines = (folder / "trace.txt").read_text().splitlines()
    calls = Counter(name for run, name, _ in map(str.split, lines) if run == run_id)
    assert calls.pop(f"out_{KILLER + 1}") == deaths
    assert max(calls.values()) <= 1 + deaths - max_deliveries


@pytest.mark.timeout(240)
@pytest.mark.parametrize("supervised", ["deadly_decisions"], indirect=True)
def test_a_poison_record_fails_only_its_run(
    supervised: tuple[Cluster, Supervisor],
) -> None:
    """The owner calls `os._exit` in `decide`. Four or five owners die, then the record is dead-lettered."""
    cluster, supervisor = supervised
    user = User(cluster)
    bad = {"name": "bad", "agent": "echo", "inputs": 1, "result_keys": ["bad"]}
    fine = {"name": "fine", "agent": "echo", "inputs": 2, "result_keys": ["fine"]}

    final = user.run({"task_groups": [{"name": "g", "tasks": [bad, fine]}]}, seconds=180)
    print(f"{final['status']}, {supervisor.deaths} processes died")
    after = user.run({"task_groups": [{"name": "g", "tasks": [fine]}]})

    assert final["status"] == "failed"
    assert "its owner died" in final["failures"][0]["message"]
    assert after["status"] == "completed"
    assert supervisor.deaths in (4, 5)
    dead_letters = user.await_records(lambda seen: seen.topic == "dead-letters")
    assert {dead_letter.headers["anabranch_code"] for dead_letter in dead_letters} == {b"undecodable"}
    assert all(b"its owner died" in dead_letter.headers["anabranch_reason"] for dead_letter in dead_letters)
    user.close()
