"""`anabranch why` with dead processes; and a stuck owner, which reports that it is not live."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, User, await_true
from requests_made import echo, request

SUPPORT = Path(__file__).parents[1] / "support"
Start = Callable[..., Cluster]


@pytest.fixture
def make(kafka: str, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Start]:
    """Creates a cluster with its topics, without services."""
    clusters: list[Cluster] = []

    def make_it(**environ: str) -> Cluster:
        variables = {
            "PYTHONPATH": str(SUPPORT),
            "ANABRANCH_TEST_TRACE": str(tmp_path / "trace"),
            "CI": "",
            **environ,
        }
        clusters.append(Cluster(tmp_path, kafka, redis_url, prefix, variables))
        assert clusters[-1].run("topics", "create").returncode == 0
        return clusters[-1]

    yield make_it
    for cluster in clusters:
        cluster.stop()


def why(cluster: Cluster, run: str, *options: str) -> dict[str, Any]:
    done = cluster.run("why", run, "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def facts(document: dict[str, Any]) -> set[tuple[str | None, str]]:
    return {(each["task"], each["fact"]) for each in document["missing"]}


def test_why_works_with_every_service_killed_and_the_run_ends_once_they_are_restarted(make: Start) -> None:
    """A fan-out runs, one task waits for a key, one for the fan-out; SIGKILL to all; then new processes and the
    key."""
    cluster = make()
    document = request(
        {
            "name": "fan",
            "agent": "sleep",
            "inputs": {"seconds": 3, "value": "{n}"},
            "result_keys": ["fanned"],
            "expansion_config": {"type": "array", "array_mapping": {"n": list(range(20))}},
        },
        echo("{fanned}", name="after", dependencies=["fanned"], result_keys=["after"]),
        echo("{news}", name="waits", external_dependencies=["news"], result_keys=["waits"]),
        session_id=f"s-{uuid.uuid4()}",
    )
    user = User(cluster)
    user.produce(document)
    run = document["request_id"]
    before = why(cluster, run)
    for service, options in (("agency", ()), ("taskgroup", ("--concurrency", "4"))):
        cluster.start(service, *options).await_ready()
    user.await_records(lambda seen: seen.topic == "events" and b"task.started" in seen.value)
    cluster.stop()
    await_true(lambda: (None, "no_owner") in facts(why(cluster, run)), 30)
    dead = why(cluster, run)

    assert facts(before) >= {(None, "not_admitted")}
    by_task = {each["task"]: each for each in dead["missing"] if each["fact"] != "no_owner"}
    assert {"fan", "after", "waits"} <= by_task.keys()
    assert (by_task["waits"]["fact"], by_task["waits"]["key"]) == ("waits_for_external_key", "news")
    assert (by_task["after"]["fact"], by_task["after"]["key"]) == ("waits_for_key", "fanned")
    claimed = [each for each in dead["missing"] if each["fact"] == "claimed"]
    assert [each["alive"] for each in claimed] == [False] * len(claimed)
    assert claimed != []
    assert sum(each.get("count", 1) for each in dead["missing"] if each["task"] == "fan") <= 20

    for service in ("agency", "taskgroup"):
        cluster.start(service).await_ready()
    user.redis.set(f"session:{{{document['session_id']}}}:news", '"came"')
    healed = why(cluster, run, "--heal")
    assert healed["healed"] != []
    final = user.await_final(run, 90).body
    assert final["status"] == "completed"
    after = why(cluster, run)
    assert (after["status"], after["missing"]) == ("completed", [])
    assert why(cluster, final["run_id"], "--heal")["healed"] == []
    user.close()


def test_why_reports_unknown_runs_and_unavailable_servers(make: Start) -> None:
    cluster = make()

    unknown = cluster.run("why", "nobody-knows")
    away = cluster.run("why", "x", "--redis-url", "redis://127.0.0.1:1/0")

    assert (unknown.returncode, away.returncode) == (2, 4)
    assert "there is no run" in unknown.stderr
    assert "--json" not in away.stderr
    assert json.loads(cluster.run("why", "nobody-knows", "--json").stdout)["errors"]


def probe(port: int, path: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    return response.status, body


def test_a_stuck_owner_reports_it_and_exits_and_its_successor_continues(make: Start, tmp_path: Path) -> None:
    """The listener of the TaskGroup never returns. Its probe fails with the reason, and the process ends with
    1."""
    stuck = tmp_path / "stuck"
    stuck.touch()
    cluster = make(ANABRANCH_TEST_STUCK=str(stuck), ANABRANCH_STALL_AFTER="4s", ANABRANCH_HEALTH_PORT="0")
    cluster.start("agency").await_ready()
    owner = cluster.start("taskgroup", "--agents", "stuck_agents")
    owner.await_ready()
    port = int(owner.log.read_text().rpartition("health on port ")[2].split()[0])
    user = User(cluster)
    document = request(echo(1))
    answers: list[tuple[int, dict[str, Any]]] = []

    def failed() -> bool:
        try:
            answers.append(probe(port, "/livez"))
        except OSError:
            return owner.popen.poll() is not None
        return answers[-1][0] == 503

    user.produce(document)
    await_true(failed, 60, cluster.logs)
    assert owner.popen.wait(60) == 1
    assert "none was decided" in owner.log.read_text()
    seen = [body["detail"] for status, body in answers if status == 503]
    assert all("none was decided" in detail for detail in seen)

    stuck.unlink()
    cluster.start("taskgroup", "--agents", "stuck_agents").await_ready()
    assert user.await_final(document["request_id"], 60).body["status"] == "completed"
    user.close()
