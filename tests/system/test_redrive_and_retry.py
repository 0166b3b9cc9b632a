"""Dead letters and retries with the command, on separate processes and real servers."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from cluster import Cluster, User
from requests_made import request


def repaired(cluster: Cluster, count: int, *, broken: int, **more: Any) -> tuple[dict[str, Any], Path]:
    """A fan-out with a member that fails until a file exists."""
    until = cluster.folder / f"until-{uuid.uuid4()}"
    always = cluster.folder / "system_agents.py"
    always.touch()
    files = [str(until if index == broken else always) for index in range(count)]
    config = {"type": "array", "array_mapping": {"file": files}}
    task = {
        "name": "t",
        "agent": "repaired",
        "inputs": {"until": "{file}", "value": "{index}"},
        "result_keys": ["out"],
    }
    return request({**task, "expansion_config": config, **more}), until


def calls(cluster: Cluster, run_id: str) -> Counter[str]:
    """The number of calls of each member of a run."""
    lines = [line.split() for line in (cluster.folder / "trace.txt").read_text().splitlines()]
    return Counter(member for called, member, _ in lines if called == run_id)


def command(cluster: Cluster, *arguments: str, code: int = 0) -> Any:
    ran = cluster.run(*arguments, "--json")
    assert ran.returncode == code, ran.stderr
    return json.loads(ran.stdout)


def dead_letters(cluster: Cluster, run: str, *options: str) -> list[dict[str, Any]]:
    """The groups of dead letters of a run."""
    groups: list[dict[str, Any]] = command(cluster, "dlq", "list", "--run", run, *options)["groups"]
    return groups


def await_dead_letter(cluster: Cluster, user: User, run_id: str) -> dict[str, Any]:
    user.await_records(lambda s: s.topic == "dead-letters" and s.key == run_id)
    [group] = dead_letters(cluster, run_id)
    return group


def submit(user: User, document: dict[str, Any]) -> str:
    user.produce(document)
    accepted = user.await_records(
        lambda s: s.kind == "run.accepted" and s.body["request_id"] == document["request_id"]
    )
    run_id: str = accepted[0].body["run_id"]
    return run_id


def test_a_held_member_is_redriven_and_its_run_completes(cluster: Cluster, user: User) -> None:
    document, until = repaired(cluster, 20, broken=7, on_failure="hold")
    run_id = submit(user, document)
    group = await_dead_letter(cluster, user, run_id)
    shown = command(cluster, "dlq", "show", group["example"])
    assert (group["count"], group["held"], shown["member"]["index"]) == (1, 1, 7)
    assert "is not there yet" in shown["error"]

    until.touch()
    redriven = command(cluster, "dlq", "redrive", group["example"])

    final = user.await_final(document["request_id"]).body
    assert redriven["redriven"] == [{"id": group["example"], "kind": "member", "run_id": run_id}]
    assert (final["status"], final["results"]["out"]) == ("completed", list(range(20)))
    assert calls(cluster, run_id) == Counter({f"t_{n + 1}": 1 + (n == 7) for n in range(20)})
    assert dead_letters(cluster, run_id) == []
    assert len(dead_letters(cluster, run_id, "--all")) == 1


def test_a_dismissed_member_counts_as_failed(cluster: Cluster, user: User) -> None:
    document, _ = repaired(cluster, 5, broken=2, on_failure="hold", tolerated_failures=1)
    run_id = submit(user, document)
    group = await_dead_letter(cluster, user, run_id)

    command(cluster, "dlq", "dismiss", "--signature", group["signature"])

    final = user.await_final(document["request_id"]).body
    assert (final["status"], final["results"]["out"]) == ("completed", [0, 1, 3, 4])
    assert dead_letters(cluster, run_id) == []


def test_a_dead_letter_of_an_ended_run_leads_to_its_retry(cluster: Cluster, user: User) -> None:
    document, until = repaired(cluster, 500, broken=124)
    failed = user.run(document)
    assert failed["status"] == "failed"
    group = await_dead_letter(cluster, user, failed["run_id"])

    refused = command(cluster, "dlq", "redrive", "--run", document["request_id"], code=2)
    assert f"anabranch retry {failed['run_id']} --failed" in refused["refused"][0]["reason"]

    until.touch()
    result = command(cluster, "retry", document["request_id"], "--failed")

    assert (result["status"], result["results"]["out"]) == ("completed", list(range(500)))
    assert (result["retry_of"], result["taken_over"]) == (failed["run_id"], 499)
    assert calls(cluster, result["run_id"]) == Counter({"t_125": 1})
    status = command(cluster, "status", result["run_id"])
    assert status["retry_of"] == failed["run_id"]
    again = command(cluster, "retry", result["run_id"], "--failed", code=2)
    assert again["errors"][0]["code"] == "not_retryable"
    assert group["signature"]


def test_a_detached_retry_with_a_request_id_is_one_run(cluster: Cluster, user: User) -> None:
    document, until = repaired(cluster, 3, broken=1)
    failed = user.run(document)
    until.touch()
    chosen = f"again {uuid.uuid4()}"
    options = ("--failed", "--detach", "--request-id", chosen)

    started = [command(cluster, "retry", failed["run_id"], *options) for _ in range(2)]

    final = user.await_final(chosen).body
    assert {each["run_id"] for each in started} == {final["run_id"]}
    assert (final["status"], final["retry_of"], final["taken_over"]) == ("completed", failed["run_id"], 2)
    assert calls(cluster, final["run_id"]) == Counter({"t_2": 1})


def test_a_redriven_request_is_sent_again_unchanged(cluster: Cluster, user: User) -> None:
    """A request refused for its used id is refused again after a redrive, byte for byte, as nothing has
    changed."""
    document, _ = repaired(cluster, 1, broken=0)
    user.run(document)
    wrong = json.dumps(document | {"name": "another"}, indent=1).encode()
    user.produce(wrong, headers={"mine": "yes"})
    is_dead_letter = lambda s: s.topic == "dead-letters" and s.value == wrong  # noqa: E731
    user.await_records(is_dead_letter)
    [group] = [
        each for each in dead_letters(cluster, document["request_id"]) if each["code"] == "request_id_conflict"
    ]

    command(cluster, "dlq", "redrive", "--signature", group["signature"])

    first, second = user.await_records(is_dead_letter, 2)
    assert (second.value, second.headers["mine"]) == (first.value, b"yes")
    assert second.headers["anabranch_origin"] != first.headers["anabranch_origin"]
    [newer] = [
        each for each in dead_letters(cluster, document["request_id"]) if each["code"] == "request_id_conflict"
    ]
    assert (newer["count"], newer["example"] != group["example"]) == (1, True)
    command(cluster, "dlq", "dismiss", newer["example"])
    codes = [each["code"] for each in dead_letters(cluster, document["request_id"])]
    assert "request_id_conflict" not in codes


def test_an_unknown_dead_letter_or_run_exits_with_2(cluster: Cluster) -> None:
    assert command(cluster, "dlq", "show", "0:999999999", code=2)["errors"]
    assert command(cluster, "dlq", "redrive", "--signature", "none", code=2) == {"redriven": [], "refused": []}
    assert command(cluster, "retry", "nobody", "--failed", code=2)["errors"][0]["code"] == "not_retryable"
    assert cluster.run("retry", "nobody").returncode == 2
