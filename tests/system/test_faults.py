"""Faults of whole processes and servers during open runs: nothing is lost, and nothing is published twice."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from typing import Any

import pytest
from cluster import FINAL, Cluster, Start, User, await_true
from requests_made import echo, fan_out, request, resolved
from servers.process import ServerHandle

WORKER = ("--agents", "system_agents", "--concurrency", "8")


def traced(count: int, seconds: float) -> dict[str, Any]:
    """A fan-out whose members record each call in a file, wait, and return their index."""
    return request(fan_out(count) | {"agent": "traced", "inputs": {"seconds": seconds, "value": "{n}"}})


def calls(cluster: Cluster) -> Counter[str]:
    """The number of calls of each member of each run."""
    lines = (cluster.folder / "trace.txt").read_text().splitlines()
    return Counter(line.rpartition(" ")[0] for line in lines)


def begin(user: User, document: dict[str, Any]) -> None:
    """Produce a request and wait until its first member has ended."""
    user.produce(document)
    user.await_records(lambda seen: seen.topic == "events" and b"task.completed" in seen.value)


def accept(user: User, document: dict[str, Any]) -> None:
    user.produce(document)
    user.await_records(lambda s: s.kind == "run.accepted" and s.body["request_id"] == document["request_id"])


def outside(user: User, session: str, key: str, value: str) -> None:
    name = f"session:{{{session}}}:{key}"
    user.redis.set(name, value)
    user.redis.publish(name, "look")


def final_ids(user: User, document: dict[str, Any]) -> set[bytes]:
    finals = [s for s in user.seen if s.kind in FINAL and s.body["request_id"] == document["request_id"]]
    return {seen.headers["ce_id"] for seen in finals}


def test_an_open_run_continues_after_every_service_was_killed(start: Start, kafka: str, redis_url: str) -> None:
    """A run waits for an external key while a fan-out runs; SIGKILL to all; new processes; then the key."""
    cluster = start(kafka, redis_url)
    user = User(cluster)
    session = f"s-{uuid.uuid4()}"
    waits = request(echo("{news}", external_dependencies=["news"]), session_id=session)
    runs = traced(1_000, 0.02)
    accept(user, waits)
    begin(user, runs)

    cluster.stop()
    for service in ("agency", "eventmanager"):
        cluster.start(service)
    for _ in range(2):
        cluster.start("taskgroup", *WORKER)
    outside(user, session, "news", '"came"')

    assert user.await_final(waits["request_id"], 60).body["results"]["out"] == "came"
    final = user.await_final(runs["request_id"], 60).body
    assert resolved(user, final, "out") == list(range(1_000))
    assert len(final_ids(user, waits)) == len(final_ids(user, runs)) == 1
    user.close()


def test_a_rolling_restart_calls_no_member_twice(start: Start, kafka: str, redis_url: str) -> None:
    """1,500 members of 20 ms and 12 of 2 s; each worker in turn gets a successor, then SIGTERM."""
    cluster = start(kafka, redis_url)
    user = User(cluster)
    quick, slow = traced(1_500, 0.02), traced(12, 2.0)
    user.produce(slow)
    begin(user, quick)

    for worker in cluster.of("taskgroup"):
        cluster.start("taskgroup", *WORKER).await_ready()
        assert worker.terminate() == 0

    for document, count in ((quick, 1_500), (slow, 12)):
        final = user.await_final(document["request_id"], 60).body
        assert resolved(user, final, "out") == list(range(count))
    assert {call: times for call, times in calls(cluster).items() if times > 1} == {}
    user.close()


def test_a_subscription_forwards_events_until_it_ends(start: Start, kafka: str, redis_url: str) -> None:
    """By control records: one for a run before it exists, one for a session that has had a run."""
    cluster = start(kafka, redis_url)
    user = User(cluster)
    session, document = f"s-{uuid.uuid4()}", request(echo(1))
    prefix = f"{cluster.prefix}sub:"
    channels = {"run": f"{prefix}run", "session": f"{prefix}session"}
    listening = user.redis.pubsub(ignore_subscribe_messages=True)
    listening.subscribe(*channels.values())
    run = {"request_id": document["request_id"], "channel": channels["run"]}
    all_runs = {"session_id": session, "channel": channels["session"]}
    received: list[tuple[str, str]] = []

    def receive() -> list[tuple[str, str]]:
        while (message := listening.get_message(timeout=0.05)) is not None:
            kind = str(json.loads(message["data"])["type"])
            received.append((message["channel"].decode().removeprefix(prefix), kind))
        return received

    user.run(request(echo(1), session_id=session))
    user.produce({"type": "subscribe", "types": ["task.completed"], **run})
    user.produce({"type": "subscribe", "types": ["run.*"], **all_runs})
    user.await_records(lambda seen: seen.topic == "events" and b'"subscribe"' in seen.value, 2)
    user.run(document | {"session_id": session})
    await_true(lambda: len(receive()) >= 3, 20, cluster.logs)
    assert sorted(received) == [
        ("run", "task.completed"),
        ("session", "run.accepted"),
        ("session", "run.completed"),
    ]

    user.produce({"type": "unsubscribe", **all_runs})
    user.produce(
        {"type": "subscribe", "session_id": session, "types": ["run.completed"], "channel": channels["run"]}
    )
    user.await_records(lambda seen: seen.topic == "events" and b'"run.completed"]' in seen.value)
    user.run(request(echo(2), session_id=session))
    await_true(lambda: receive()[-1] == ("run", "run.completed"), 20, cluster.logs)
    assert len(received) == 4, "an ended subscription receives nothing"
    user.close()


# --- servers -------------------------------------------------------------------------------------


def large_then_waits(session: str) -> dict[str, Any]:
    """Creates a large array, waits for an external key, and then expands over the array."""
    made = fan_out(4_000) | {"name": "make", "inputs": {"n": "{n}", "pad": "x" * 60}, "result_keys": ["made"]}
    config = {"type": "array", "array_mapping": {"x": "made"}}
    later = echo("{x.n}", dependencies=["made"], external_dependencies=["go"], expansion_config=config)
    return request(made, later, session_id=session)


@pytest.mark.chaos
@pytest.mark.parametrize("everything", [False, True], ids=["redis alone", "with every service"])
def test_a_redis_that_restarts_empty_gets_the_data_of_open_runs(
    start: Start, kafka: str, redis_process: ServerHandle, everything: bool
) -> None:
    """A run with a large value in pages waits; Redis restarts empty; then the external key is set."""
    cluster = start(kafka, redis_process.address)
    user = User(cluster)
    session = f"s-{uuid.uuid4()}"
    document = large_then_waits(session)
    user.produce(document)
    user.await_records(lambda seen: seen.kind == "result.published" and seen.body["result_key"] == "made")
    committed = time.monotonic() + 8  # by then no owner would read the value's records again by itself
    await_true(lambda: time.monotonic() > committed, 20)

    for process in cluster.processes if everything else ():
        process.terminate()
    redis_process.kill()
    redis_process.start()
    for service, options in (("agency", ()), ("taskgroup", WORKER)) if everything else ():
        cluster.start(service, *options).await_ready()
    outside(user, session, "go", "1")

    final = user.await_final(document["request_id"], 60).body
    assert final["status"] == "completed", final["failures"]
    assert resolved(user, final, "out") == list(range(4_000))
    user.close()


@pytest.mark.chaos
@pytest.mark.server_settings(redis={"appendonly": "yes"})
@pytest.mark.parametrize("fault", ["stopped", "frozen", "full"])
def test_a_redis_outage_of_twenty_seconds_only_delays_runs(
    start: Start, kafka: str, redis_process: ServerHandle, fault: str
) -> None:
    """100 members of 2 s. In three rounds Redis is unavailable, frozen, or refuses every write."""
    cluster = start(kafka, redis_process.address)
    user = User(cluster)
    document = traced(100, 2.0)
    begin(user, document)

    if fault == "full":
        user.redis.config_set("maxmemory", "1mb")
    else:
        redis_process.stop() if fault == "stopped" else redis_process.pause()
    back = time.monotonic() + 20
    await_true(lambda: time.monotonic() > back, 30)
    if fault == "full":
        user.redis.config_set("maxmemory", "0")
    else:
        redis_process.start() if fault == "stopped" else redis_process.resume()

    final = user.await_final(document["request_id"], 90).body
    assert resolved(user, final, "out") == list(range(100))
    assert set(calls(cluster).values()) == {1}
    user.close()


@pytest.mark.chaos
@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_a_broker_outage_only_delays_runs(
    start: Start, broker_process: ServerHandle, redis_url: str, fault: str
) -> None:
    """2,000 members of 20 ms; the only broker is killed and started again, or frozen for 15 s."""
    cluster = start(broker_process.address, redis_url)
    user = User(cluster)
    document = traced(2_000, 0.02)
    begin(user, document)

    if fault == "killed":
        broker_process.kill()
        broker_process.start()
    else:
        broker_process.pause()
        back = time.monotonic() + 15
        await_true(lambda: time.monotonic() > back, 30)
        broker_process.resume()

    final = user.await_final(document["request_id"], 90).body
    assert resolved(user, final, "out") == list(range(2_000))
    user.close()
