"""Limits of records, values, logs, clocks and settings on real servers: a run that exceeds one ends, alone."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, User, await_true
from edge_installation import committed, ends_of, installation, start
from requests_made import echo, fan_out, request, resolved

from conformance import kafka_admin

AHEAD = 600


@pytest.fixture(scope="module")
def edges(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An Agency and two TaskGroups. No test here, and no request of a test, may stop them."""
    cluster = installation(tmp_path_factory.mktemp("edges"), kafka, redis_url)
    try:
        start(cluster, "agency", "taskgroup", "taskgroup")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def user(edges: Cluster) -> Iterator[User]:
    """A user of the shared installation. After each test all its services have to be running."""
    user = User(edges)
    yield user
    user.close()
    ended = [each for each in edges.processes if each.popen.poll() is not None]
    assert not ended, edges.logs()


@pytest.fixture
def broken(kafka: str, redis_url: str, tmp_path: Path) -> Iterator[Cluster]:
    """An installation for one test, without services, which the test may break."""
    cluster = installation(tmp_path, kafka, redis_url)
    try:
        yield cluster
    finally:
        cluster.stop()


def over(key: str, *, agent: str = "length", out: str = "lengths") -> dict[str, Any]:
    """A task with one member for each item of a key."""
    expansion = {"type": "array", "array_mapping": {"item": key}}
    return {
        "name": "each",
        "agent": agent,
        "dependencies": [key],
        "inputs": "{item}",
        "expansion_config": expansion,
        "result_keys": [out],
    }


def compact(document: dict[str, Any]) -> bytes:
    """The shortest JSON of a request, to be just below its limit."""
    return json.dumps(document, separators=(",", ":")).encode()


def many_items(count: int, size: int, *, random: bool = False) -> dict[str, Any]:
    inputs = {"count": count, "size": size, "random": random}
    return request({"name": "make", "agent": "items", "inputs": inputs, "result_keys": ["list"]}, over("list"))


# --- records that are too large ----------------------------------------------------------------------


@pytest.mark.parametrize(("count", "size"), [(1_000, 70_000), (20_000, 2_300)])
def test_a_fan_out_over_an_array_larger_than_a_record_is_joined(user: User, count: int, size: int) -> None:
    """Chunks are cut by bytes, and items that are too large for an offer are stored in Redis."""
    document = many_items(count, size)
    bystander = request(echo("aside"))
    user.produce(document)
    user.produce(bystander)

    assert user.await_final(bystander["request_id"]).body["status"] == "completed"
    final = user.await_final(document["request_id"], 90).body
    assert (final["status"], final["failures"]) == ("completed", [])
    assert resolved(user, final, "lengths") == [size] * count


def test_a_request_whose_opening_takes_megabytes_is_run(user: User) -> None:
    """100 tasks with long names write 100 shared keys: the record that opens the run lists 10,000 producers."""
    names = [f"{number:03d}" + "n" * 197 for number in range(100)]
    shared = {f"k{number}": "count" for number in range(100)}
    tasks = [
        {
            "name": name,
            "agent": "keys",
            "inputs": {"prefix": "k", "count": 100, "size": 1},
            "result_keys": list(shared),
        }
        for name in names
    ]

    final = user.run(request(*tasks, context_policies=dict.fromkeys(shared, "append")), 90)

    assert (final["status"], final["failures"]) == ("completed", [])
    assert resolved(user, final, "k7") == ["x"] * 100


def test_a_task_with_forty_thousand_dependencies_is_run(user: User) -> None:
    context = {f"c{number}": 9 for number in range(40_000)}
    task = echo("{c39999}", dependencies=list(context))

    document = request(task, context=context)
    user.produce(compact(document))
    final = user.await_final(document["request_id"], 90).body

    assert (final["status"], final["results"]["out"]) == ("completed", 9)


def test_an_agent_may_return_several_keys_that_no_record_holds_together(user: User) -> None:
    task = {
        "name": "t",
        "agent": "keys",
        "inputs": {"prefix": "big", "count": 3, "size": 390_000},
        "result_keys": ["big0", "big1", "big2"],
    }

    final = user.run(request(task))

    assert (final["status"], final["failures"]) == ("completed", [])
    assert [len(resolved(user, final, f"big{number}")) for number in range(3)] == [390_000] * 3


# --- values that are too deep ------------------------------------------------------------------------


@pytest.mark.parametrize(("levels", "status"), [(200, "completed"), (201, "failed"), (252, "failed")])
def test_a_value_of_more_than_200_levels_fails_its_task_alone(user: User, levels: int, status: str) -> None:
    task = {
        "name": "t",
        "agent": "nested",
        "inputs": levels,
        "retry": {"max_attempts": 1},
        "result_keys": ["deep"],
    }

    final = user.run(request(task))

    assert final["status"] == status
    assert ["200 levels" in each["message"] for each in final["failures"]] == [True] * (status == "failed")


def test_a_deep_external_value_fails_the_task_that_waits_for_it(user: User) -> None:
    session = f"s-{uuid.uuid4()}"
    document = request(echo("{news}", external_dependencies=["news"]), echo("aside", name="u", key="other"))
    user.redis.set(f"session:{{{session}}}:news", b"[" * 252 + b"]" * 252, ex=600)

    final = user.run(document | {"session_id": session})

    assert (final["status"], final["results"]["other"]) == ("failed", "aside")
    assert "200 levels" in final["failures"][0]["message"]


# --- work that delays other runs -----------------------------------------------------------------------


def test_a_thousand_conflicts_of_one_request_id_delay_no_other_request(user: User) -> None:
    """Each refusal copies the original, read again from the topic, to the dead letters; neighbours in one read."""
    first = request(echo(0))
    assert user.run(dict(first))["status"] == "completed"
    for number in range(1_000):
        user.produce(first | {"name": f"other body {number}"})
    bystander = request(echo("aside"))
    user.produce(bystander)

    assert user.await_final(bystander["request_id"], 30).body["status"] == "completed"
    refused = user.await_records(lambda seen: seen.kind == "run.rejected", 1_000)
    assert {each.body["errors"][0]["code"] for each in refused} == {"request_id_conflict"}
    dead_letters = user.await_records(lambda s: s.topic == "dead-letters" and b"other body" in s.value, 1_000)
    assert len({each.value for each in dead_letters}) == 1_000


def test_fifteen_thousand_external_keys_are_waited_for_at_once(user: User) -> None:
    session = f"s-{uuid.uuid4()}"
    names = [f"k{number}" for number in range(15_000)]
    document = request(echo("{k14999}", external_dependencies=names), session_id=session)
    user.produce(document)
    user.await_records(lambda s: s.kind == "run.accepted" and s.body["request_id"] == document["request_id"])
    with user.redis.pipeline(transaction=False) as pipeline:
        for number, name in enumerate(names):
            pipeline.set(f"session:{{{session}}}:{name}", json.dumps(number), ex=600)
        pipeline.execute()

    final = user.await_final(document["request_id"], 60).body
    assert (final["status"], final["results"]["out"]) == ("completed", 14_999)


def test_an_undecodable_offer_is_dead_lettered(user: User) -> None:
    for partition in range(2):
        user.producer.produce(user.cluster.prefix + "tasks", b"\x00 no offer", partition=partition)
    assert user.producer.flush(30) == 0

    user.await_records(lambda seen: seen.topic == "dead-letters" and seen.value == b"\x00 no offer", 2)
    assert user.run(request(fan_out(200)))["status"] == "completed"


# --- request ids that are used again ---------------------------------------------------------------------


def test_a_request_id_that_was_forgotten_is_run_again(broken: Cluster) -> None:
    """The Agency has lost the run's tombstone, but the TaskGroup remembers that the run has ended."""
    [agency, _] = start(broken, "agency", "taskgroup")
    user = User(broken)
    document = request(fan_out(40))
    before = user.run(document)
    assert before["status"] == "completed"
    let_it_be_forgotten(broken, user)
    agency.kill()
    assert user.redis.delete(f"{broken.prefix}{{{before['run_id']}}}:run") == 1
    start(broken, "agency")
    user.seen.clear()

    again = user.run(document, 60)

    assert (again["status"], again["run_id"]) == ("completed", before["run_id"])
    assert again["accepted_at"] > before["accepted_at"]
    assert resolved(user, again, "out") == list(range(40))
    user.close()


def let_it_be_forgotten(cluster: Cluster, user: User) -> None:
    """Submit runs until a new owner of `runs` would begin after all present records."""
    ends = ends_of(user, "runs")

    def is_over() -> bool:
        assert user.run(request(echo("later")))["status"] == "completed"
        places = committed(cluster, "agency", "runs")
        begins = {place.partition: json.loads(place.metadata or "{}").get("replay_from", -1) for place in places}
        return all(begins[partition] >= end for partition, end in ends.items())

    await_true(is_over, 60, cluster.logs)


# --- changed settings -----------------------------------------------------------------------------------------


def test_a_lower_inline_limit_after_a_restart_changes_no_open_run(broken: Cluster, tmp_path: Path) -> None:
    """The limit that applies to a run is on the log with it: a value without pages gets no reference."""
    [agency, worker] = start(broken, "agency", "taskgroup")
    user = User(broken)
    gate = tmp_path / "gate"
    texts = fan_out(60) | {"agent": "waits", "inputs": {"until": f"{gate}-{{n}}", "value": "x" * 400}}
    join = {"name": "join", "agent": "length", "inputs": "{out}", "dependencies": ["out"], "result_keys": ["n"]}
    for number in range(30):
        Path(f"{gate}-{number}").touch()
    document = request(texts, join)
    user.produce(document)
    await_members(user, 30)
    await_committed(broken, user)
    for service in (agency, worker):
        service.kill()
    broken.environ = {**broken.environ, "ANABRANCH_INLINE_LIMIT": "1024"}
    start(broken, "agency", "taskgroup")
    for number in range(30, 60):
        Path(f"{gate}-{number}").touch()

    final = user.await_final(document["request_id"], 90).body

    assert (final["status"], final["failures"], final["results"]["n"]) == ("completed", [], 60)
    assert resolved(user, final, "out") == ["x" * 400] * 60
    user.close()


def await_members(user: User, count: int) -> None:
    """Wait until the events report this number of ended members."""

    def ended() -> bool:
        user.read()
        entries = [entry for seen in user.seen if seen.topic == "events" for entry in seen.body.get("entries", ())]
        of_members = [entry for entry in entries if entry["type"] == "task.completed"]
        return sum(spanned(entry) for entry in of_members) >= count

    await_true(ended, 60, user.cluster.logs)


def await_committed(cluster: Cluster, user: User) -> None:
    """Wait until the session's owner has committed everything, so that no effect is repeated."""
    ends = ends_of(user, "groups")

    def is_over() -> bool:
        return all(place.offset >= ends[place.partition] for place in committed(cluster, "taskgroup", "groups"))

    await_true(is_over, 60, cluster.logs)


def spanned(entry: dict[str, Any]) -> int:
    """Number of members of an event entry."""
    return sum(stop - start for start, stop in entry["spans"]) if entry.get("spans") else 1


# --- clocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skewed", ["agency", "taskgroup"])
def test_a_clock_ten_minutes_ahead_times_nothing_out(broken: Cluster, skewed: str) -> None:
    """Deadlines are in the broker's time, and a worker computes them from the offer's record."""
    for service in ("agency", "taskgroup"):
        if service == skewed:
            ahead(broken, service)
        else:
            start(broken, service)
    user = User(broken)
    slow = {"name": "t", "agent": "sleep", "inputs": {"seconds": 1, "value": 7}, "result_keys": ["out"]}
    document = request(slow, fan_out(100) | {"name": "wide", "result_keys": ["wide"]}, timeout=60)
    final = user.run(document)
    assert (final["status"], final["results"]["out"]) == ("completed", 7)

    late = request({**slow, "inputs": {"seconds": 600, "value": 7}}, timeout=3)
    began = time.monotonic()
    user.produce(late)
    final = user.await_final(late["request_id"]).body
    assert final["status"] == "timed_out"
    assert time.monotonic() - began > 2.5
    user.close()


def ahead(cluster: Cluster, service: str) -> None:
    """Start a service whose clock is ahead, and wait until it is ready."""
    plain = cluster.command

    def skewed(*arguments: str) -> list[str]:
        return [plain()[0], "-m", "skewed_service", str(AHEAD), *arguments]

    cluster.command = skewed  # type: ignore[method-assign]
    try:
        start(cluster, service)
    finally:
        cluster.command = plain  # type: ignore[method-assign]


# --- a lowered limit (last, because it changes the shared installation) ------------------------------------------


@pytest.mark.parametrize("limit", [100_000])
def test_topics_whose_limit_was_lowered_while_services_run(user: User, limit: int) -> None:
    """One record is refused; then the service knows the limit and cuts records. A batch of several counts as
    one."""
    names = ("runs", "groups", "tasks", "events", "results", "dead-letters")
    for name in names:
        kafka_admin.alter(user.cluster.brokers, user.cluster.prefix + name, limit)
    wide = many_items(20_000, 300, random=True)
    context = {f"c{number}": number for number in range(10_000)}
    opened = request(echo("{c9999}", dependencies=list(context)), context=context)
    user.produce(wide)
    user.produce(opened)

    final = user.await_final(wide["request_id"], 90).body
    assert (final["status"], final["failures"]) == ("completed", [])
    assert resolved(user, final, "lengths") == [300] * 20_000
    final = user.await_final(opened["request_id"], 90).body
    assert (final["status"], final["results"]["out"]) == ("completed", 9_999)
