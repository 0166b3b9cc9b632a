"""Requests, valid and invalid, as a user of Kafka sees them: separate processes, real servers, plain clients."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cluster import FINAL, Cluster, User
from requests_made import echo, fan_out, request, resolved
from workflows import WORKFLOWS, workflow_request, workflow_tasks


@pytest.mark.parametrize("grouping", ["one", "task", "program"])
@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_recorded_workflow_runs_each_task_once_and_none_before_its_parents(
    user: User, name: str, grouping: Any
) -> None:
    longest = max(task["runtimeInSeconds"] for task in workflow_tasks(name))
    document = workflow_request(name, grouping, scale=0.05 / longest) | {"request_id": str(uuid.uuid4())}

    final = user.run(document)

    tasks = {task["id"]: task for task in workflow_tasks(name)}
    assert final["status"] == "completed", final["failures"]
    assert final["results"] == {task_id: task_id for task_id in tasks}
    assert all(user.value(final["session_id"], task_id) == task_id for task_id in tasks)
    events = events_of(user, final["run_id"])
    started = Counter(event["task"] for event in events if event["type"] == "task.started")
    assert started == Counter(dict.fromkeys(tasks, 1))
    began = {event["task"]: at for at, event in enumerate(events) if event["type"] == "task.started"}
    ended = {event["task"]: at for at, event in enumerate(events) if event["type"] == "task.completed"}
    for task_id, task in tasks.items():
        assert all(ended[parent] < began[task_id] for parent in task["parents"])


def events_of(user: User, run_id: str) -> list[dict[str, Any]]:
    """The entries of a run's events in the order of its partition, once its end is among them. A new owner may
    publish some of them again, with the same cause; these count once, as for every reader."""
    user.await_records(lambda s: s.topic == "events" and s.key == run_id and b'"run.completed' in s.value)
    batches = [s.body for s in user.seen if s.topic == "events" and s.key == run_id]
    entries = {
        (batch["source"], entry["cause"]): entry for batch in reversed(batches) for entry in batch["entries"]
    }
    positions = [(batch["source"], entry["cause"]) for batch in batches for entry in batch["entries"]]
    return [entries[each] for each in dict.fromkeys(positions)]


@pytest.mark.parametrize("count", [65, 1_025, 2_001, 10_001])
def test_a_fan_out_is_joined_with_each_member_once_and_in_order(user: User, count: int) -> None:
    final = user.run(request(fan_out(count)))

    assert final["status"] == "completed"
    assert resolved(user, final, "out") == list(range(count))
    assert final["executions"] == {"total": count, "completed": count, "failed": 0, "skipped": 0}


@pytest.mark.parametrize(
    ("output_format", "expected"),
    [
        ("merge", ["a", "b", "c"]),
        ("index", ["a", "b", "c"]),
        ("single", "c"),
        ("separate", {"0": "a", "1": "b", "2": "c"}),
    ],
)
def test_the_four_output_formats(user: User, output_format: str, expected: Any) -> None:
    config = {"type": "array", "array_mapping": {"x": ["a", "b", "c"]}, "output_format": output_format}

    final = user.run(request(echo("{x}", expansion_config=config)))

    assert final["results"]["out"] == expected
    assert user.value(final["session_id"], "out") == expected
    if output_format == "separate":
        assert user.value(final["session_id"], "1_out") == "b"


def test_a_wide_separate_join_writes_every_derived_key(user: User) -> None:
    config = {"output_format": "separate", "identifiers": {"id": "n"}}

    final = user.run(request(fan_out(10_001, **config)))

    assert final["status"] == "completed"
    assert user.value(final["session_id"], "10000_out") == 10_000
    assert user.value(final["session_id"], "0_out") == 0


@pytest.mark.parametrize(
    ("on_empty", "status", "results"),
    [("complete", "completed", {"out": []}), ("fail", "failed", {}), ("skip", "completed", {})],
)
def test_an_empty_array_completes_skips_or_fails_its_task(
    user: User, on_empty: str, status: str, results: Any
) -> None:
    config = {"type": "array", "array_mapping": {"x": "items"}, "on_empty": on_empty}

    final = user.run(request(echo("{x}", expansion_config=config), context={"items": []}))

    assert (final["status"], final["results"]) == (status, results)


def test_the_compatibility_envelope_comes_back_as_a_final_record(user: User) -> None:
    request_id = str(uuid.uuid4())
    task = {
        "name": "greet",
        "agent_class": "echo",
        "message_template": "hello {who}",
        "dependencies": ["who"],
        "result_keys": ["out"],
        "order": 1,
    }
    inner = {"task_groups": [{"name": "g", "tasks": [task]}], "name": "old", "process_array_output": True}
    user.produce(
        {
            "key": f"task_group:{request_id}",
            "action": "initialize",
            "object": inner,
            "context": {"context": {"who": "world"}},
        }
    )

    final = user.await_final(request_id).body

    assert final["status"] == "completed"
    assert final["results"]["out"] == "hello world"
    assert len(final["warnings"]) == 1


def test_the_same_request_id_twice_and_from_two_producers_at_once_is_one_run(user: User, cluster: Cluster) -> None:
    document = request({"name": "t", "agent": "traced", "inputs": {"value": 1}, "result_keys": ["out"]})
    users = [User(cluster, ()) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: each.produce(document), users))
    final = user.await_final(document["request_id"])

    user.produce(document)
    ids = user.await_records(
        lambda s: s.kind == "run.accepted" and s.body["request_id"] == document["request_id"], 3
    )

    finals = [s for s in user.seen if s.kind in FINAL and s.body["request_id"] == document["request_id"]]
    assert {s.headers["ce_id"] for s in finals} == {final.headers["ce_id"]}
    assert len({s.headers["ce_id"] for s in ids}) == 1
    calls = (cluster.folder / "trace.txt").read_text().split("\n")
    assert sum(line.startswith(final.body["run_id"]) for line in calls) == 1
    for each in users:
        each.close()


def test_the_same_request_id_with_another_body_is_rejected(user: User) -> None:
    document = request(echo(1))
    assert user.run(document)["status"] == "completed"

    user.produce(document | {"name": "other"})
    rejected = user.await_records(
        lambda s: s.kind == "run.rejected" and s.body["request_id"] == document["request_id"]
    )[0]

    assert rejected.body["errors"][0]["code"] == "request_id_conflict"
    dead_letter = user.await_records(lambda s: s.topic == "dead-letters" and b'"other"' in s.value)[0]
    assert json.loads(dead_letter.value) == document | {"name": "other"}


def test_two_runs_of_one_session_each_see_their_own_value(user: User) -> None:
    session = f"s-{uuid.uuid4()}"

    def document(value: str) -> dict[str, Any]:
        first = echo(value, name="make", key="shared")
        second = echo("{shared}", name="use", key=f"seen_{value}", dependencies=["shared"])
        return request(first, second, session_id=session)

    finals = [user.run(document(value)) for value in ("one", "two")]

    assert [final["results"][f"seen_{v}"] for final, v in zip(finals, ("one", "two"), strict=True)] == [
        "one",
        "two",
    ]
    assert user.value(session, "shared") == "two"


def test_a_later_run_may_depend_on_keys_of_its_session(user: User) -> None:
    session = f"s-{uuid.uuid4()}"
    user.run(request(echo("kept", key="base"), session_id=session))

    final = user.run(request(echo("{base}", dependencies=["base"]), session_id=session))

    assert final["results"]["out"] == "kept"


def test_an_external_dependency_is_satisfied_by_set_and_publish(user: User) -> None:
    session = f"s-{uuid.uuid4()}"
    document = request(echo("{news}", external_dependencies=["news"]), session_id=session)
    user.produce(document)
    user.await_records(lambda s: s.kind == "run.accepted" and s.body["request_id"] == document["request_id"])

    name = f"session:{{{session}}}:news"
    user.redis.set(name, '{"it": "came"}')
    user.redis.publish(name, "look")

    assert user.await_final(document["request_id"], 10).body["results"]["out"] == {"it": "came"}


BAD = {
    "not JSON": (b"{no", "not_json"),
    "not a request": (b"[1, 2]", "not_a_request"),
    "a cycle": (
        request(echo(1, name="a", key="x", dependencies=["y"]), echo(1, name="b", key="y", dependencies=["x"])),
        "cycle",
    ),
    "an unknown dependency": (request(echo(1, dependencies=["nowhere"])), "unknown_dependency"),
    "two producers": (request(echo(1, name="a"), echo(1, name="b")), "duplicate_result_key"),
    "oversize": (request(echo("x" * 1_000_100)), "too_large"),
    "a mapped name that nobody provides": (
        request(echo(1, expansion_config={"type": "array", "array_mapping": {"x": "nobody"}})),
        "unknown_dependency",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_its_error_and_its_bytes_are_kept(user: User, case: str) -> None:
    document, code = BAD[case]
    user.producer = type(user.producer)(
        {"bootstrap.servers": user.cluster.brokers, "message.max.bytes": 1_048_000}
    )

    user.produce(document, headers={"mine": case})

    dead_letter = user.await_records(
        lambda s: s.topic == "dead-letters" and s.headers.get("mine") == case.encode()
    )[0]
    sent = document if isinstance(document, bytes) else json.dumps(document).encode()
    assert dead_letter.value == sent
    rejected = user.await_records(lambda s: s.kind == "run.rejected" and code in s.value.decode())[-1]
    assert rejected.body["errors"][0]["code"] == code
    assert rejected.body["errors"][0]["message"]


def test_an_array_that_is_no_list_fails_its_task_and_the_run_keeps_the_rest(user: User) -> None:
    config = {"type": "array", "array_mapping": {"x": "made"}}
    document = request(
        echo("no list", name="make", key="made"),
        echo("{x}", name="spread", key="spread", dependencies=["made"], expansion_config=config),
        echo("fine", name="other", key="other"),
    )

    final = user.run(document)

    assert final["status"] == "failed"
    assert final["results"] == {"made": "no list", "other": "fine"}
    assert [(f["task"], f["error_type"]) for f in final["failures"]] == [("spread", "ExpansionError")]


def test_a_cancelled_run_stops_its_agents_and_is_reported(user: User) -> None:
    slow = {"name": "slow", "agent": "sleep", "inputs": {"seconds": 60}, "result_keys": ["slow"]}
    document = request(echo("done", name="quick", key="quick"), slow)
    user.produce(document)
    user.await_records(lambda s: s.topic == "events" and b'"slow"' in s.value and b"task.started" in s.value)

    user.produce({"type": "cancel", "request_id": document["request_id"]})

    final = user.await_final(document["request_id"], 10).body
    assert final["status"] == "cancelled"
    assert final["results"] == {"quick": "done"}


def test_a_key_written_by_several_tasks_and_runs_has_a_value_and_versions(user: User, cluster: Cluster) -> None:
    """Keys with policies on real servers; then their versions, as the command shows them."""
    session = f"s-{uuid.uuid4()}"

    def document(number: int) -> dict[str, Any]:
        slow = {"name": "slow", "agent": "sleep", "inputs": {"seconds": 0.3, "value": number}}
        tasks = [
            {**slow, "result_keys": ["total"]},
            {"name": "quick", "agent": "echo", "inputs": 10 * number, "result_keys": ["total"]},
            {**fan_out(3), "result_keys": ["items"]},
            {"name": "more", "agent": "echo", "inputs": [number, 0], "result_keys": ["items"]},
            {
                "name": "seen",
                "agent": "echo",
                "inputs": "{total}",
                "dependencies": ["total"],
                "result_keys": ["seen"],
            },
        ]
        policies = {"total": "sum", "items": "set_union"}
        return request(*tasks, context_policies=policies) | {"session_id": session, "context": {"n": number}}

    finals = [user.run(document(number)) for number in (1, 2)]

    assert [final["results"] for final in finals] == [
        {"total": 11, "items": [0, 1, 2], "seen": 11},
        {"total": 22, "items": [0, 1, 2], "seen": 22},
    ]
    assert (user.value(session, "total"), user.value(session, "items")) == (33, [0, 1, 2])
    shown = json.loads(cluster.run("context", finals[1]["run_id"], "--json").stdout)
    assert [version["version"] for version in shown["versions"]] == list(range(1, 9))
    assert [version["key"] for version in shown["versions"] if version["version"] in (1, 5)] == ["n", "n"]
    assert {key: each["value"] for key, each in shown["state"].items()} == {
        "n": 2,
        "total": 33,
        "items": [0, 1, 2],
        "seen": 22,
    }
    [total] = [
        each for each in shown["versions"] if (each["key"], each["run_id"]) == ("total", finals[0]["run_id"])
    ]
    assert (total["value"], total["policy"], total["writers"]) == (11, "sum", ["g/slow", "g/quick"])
    early = json.loads(cluster.run("context", finals[0]["request_id"], "--diff", "4", "8", "--json").stdout)
    assert [(each["key"], each["before"], each["after"]) for each in early["differences"]] == [
        ("n", 1, 2),
        ("seen", 11, 22),
        ("total", 11, 33),
    ]
    table = cluster.run("context", finals[0]["run_id"], "--at", "4").stdout
    assert "g/slow, g/quick (sum), run" in table
    refused = cluster.run("context", finals[0]["run_id"], "--at", "99")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "0 to 8 are kept" in refused.stderr
    unknown = cluster.run("context", "nobody's", "--json")
    assert unknown.returncode == 2
