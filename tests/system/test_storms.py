"""Faults by seed under load: separate processes, real servers, and no request lost, joined early or joined twice.

Requests arrive at a steady rate; each is a fan-out whose list a second one expands. `ANABRANCH_CHAOS_SEED` and
`ANABRANCH_CHAOS_MIX` select other faults. The long tests, and those that damage servers, are marked `chaos`.
"""

from __future__ import annotations

import json
import random
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from chaos import Injector, chosen_mix, chosen_seed
from cluster import Start, User, await_true
from cutting_proxy import CuttingProxy
from requests_made import echo, fan_out, request, resolved
from servers.process import ServerHandle, ServerProcess
from soak import NOTHING_WRONG, calls_of, installation, storm, verdict

pytestmark = pytest.mark.timeout(900)
DURABLE = {"appendonly": "yes", "appendfsync": "everysec"}


def weather(injector: Injector, seconds: float, every: float, mix: Mapping[str, int]) -> None:
    """Run a storm and check that it did no harm."""
    traffic, _ = storm(injector, seconds, every, 1.0, mix)
    print(f"{len(traffic.asked)} requests; {dict(injector.done)}")
    assert sum(injector.done.values()) >= 2
    assert verdict(traffic.asked) == NOTHING_WRONG, injector.cluster.logs()
    assert not injector.ended, "\n".join(injector.ended)


# --- services ------------------------------------------------------------------------------------


def test_services_killed_in_a_random_order(start: Start, kafka: str, redis_url: str) -> None:
    """SIGKILL to one of the four processes about every 2.5 s, for 8 s; each gets a successor immediately."""
    injector = Injector(start(kafka, redis_url), random.Random(chosen_seed(5)))
    weather(injector, 8, 2.5, {"kill": 1})


@pytest.mark.chaos
def test_services_killed_in_a_random_order_for_a_minute(start: Start, kafka: str, redis_url: str) -> None:
    """The same for a minute, a kill about every 2.5 s."""
    injector = Injector(start(kafka, redis_url), random.Random(chosen_seed(6)))
    weather(injector, 60, 2.5, {"kill": 1})


@pytest.mark.chaos
def test_zombies_that_wake_up_after_others_took_over(start: Start, kafka: str, redis_url: str) -> None:
    """SIGSTOP for 10 to 14 s, longer than the session timeout (8 s), then SIGCONT; one about every 8 s."""
    injector = Injector(start(kafka, redis_url), random.Random(chosen_seed(7)))
    weather(injector, 60, 8, {"freeze": 1})


@pytest.mark.chaos
def test_rolling_restarts_under_load_repeat_no_member(start: Start, kafka: str, redis_url: str) -> None:
    """A successor, then SIGTERM, about every 5 s; agents take less than `drain_seconds`. Their calls are counted
    in a file."""
    cluster = start(kafka, redis_url)
    injector = Injector(cluster, random.Random(chosen_seed(8)))
    weather(injector, 60, 5, {"roll": 1})
    assert {call: times for call, times in calls_of(cluster).items() if times > 1} == {}


@pytest.mark.chaos
def test_a_task_that_takes_longer_than_any_timeout_of_kafka_runs_once(
    start: Start, kafka: str, redis_url: str
) -> None:
    """30 members of 25 s on 16 slots, while a consumer that does not poll for 9 s is removed from its group."""
    cluster = start(kafka, redis_url, ANABRANCH_KAFKA_MAX_POLL_INTERVAL_MS="9000")
    user = User(cluster)
    task = fan_out(30) | {"agent": "traced", "inputs": {"seconds": 25.0, "value": "{n}"}}

    final = user.run(request(task), 300)

    assert resolved(user, final, "out") == list(range(30))
    assert set(calls_of(cluster).values()) == {1}
    user.close()


# --- the network ---------------------------------------------------------------------------------


def behind_proxy(redis_url: str, seed: int) -> tuple[CuttingProxy, str]:
    url = urlsplit(redis_url)
    proxy = CuttingProxy((str(url.hostname), int(url.port or 6379)), seed)
    return proxy, f"redis://127.0.0.1:{proxy.port}{url.path}"


def test_connections_to_redis_are_cut_in_mid_command(start: Start, kafka: str, redis_url: str) -> None:
    """A proxy resets each connection after 200 to 20,000 bytes in either direction, for some seconds at a time."""
    seed = chosen_seed(9)
    proxy, url = behind_proxy(redis_url, seed)
    injector = Injector(start(kafka, url), random.Random(seed), proxy=proxy)
    weather(injector, 8, 2, {"cut": 1})
    assert proxy.cuts > 10
    proxy.close()


def flooded(user: User, channel: str) -> bool:
    """Publish 2 MB on a channel, and return whether it has no subscriber any more. Messages are small, because
    large ones are neither copied nor counted for each subscriber."""
    pipeline = user.redis.pipeline(transaction=False)
    for _ in range(500):
        pipeline.publish(channel, b"x" * 4_096)
    return pipeline.execute()[-1] == 0


@pytest.mark.chaos
def test_a_subscriber_that_redis_drops_for_being_slow_reads_again(
    start: Start, kafka: str, redis_process: ServerHandle
) -> None:
    """Both owners are frozen for 4 s while their channel exceeds `client-output-buffer-limit`. The value that a
    run waits for is set meanwhile, and its message is lost with the connection."""
    cluster = start(kafka, redis_process.address)
    user = User(cluster)
    user.redis.config_set("client-output-buffer-limit", "pubsub 1mb 512kb 1")
    session = f"s-{uuid.uuid4()}"
    document = request(echo("{news}", external_dependencies=["news"]), session_id=session)
    user.produce(document)
    user.await_records(lambda s: s.kind == "run.accepted")
    name = f"session:{{{session}}}:news"
    await_true(lambda: user.redis.pubsub_numsub(name)[0][1] > 0, 120, cluster.logs)
    listening = {each["id"] for each in user.redis.client_list(_type="pubsub")}

    for worker in cluster.of("taskgroup"):
        worker.suspend()
    await_true(lambda: flooded(user, name), 120, cluster.logs)
    user.redis.set(name, json.dumps("came"))
    user.redis.publish(name, "look")
    for worker in cluster.of("taskgroup"):
        worker.resume()

    final = user.await_final(document["request_id"], 240).body
    assert final["results"]["out"] == "came"
    assert listening - {each["id"] for each in user.redis.client_list(_type="pubsub")}, (
        "no subscriber was disconnected"
    )
    user.close()


# --- Redis ---------------------------------------------------------------------------------------


def two_rounds(count: int) -> dict[str, Any]:
    """A traced fan-out with members of 20 ms each, and a second one over its list."""
    first = fan_out(count) | {"agent": "traced", "inputs": {"seconds": 0.02, "value": "{n}"}}
    config = {"type": "array", "array_mapping": {"x": "out"}}
    second = echo("{x}", name="again", key="again", dependencies=["out"], expansion_config=config)
    return request(first, second)


def roll_back(server: ServerProcess, seconds: float) -> None:
    """Kill a server and restart it with the data that it had on disk `seconds` before."""
    kept = server.directory.with_name("kept")
    server.pause()
    shutil.copytree(server.directory, kept)
    server.resume()
    until = time.monotonic() + seconds
    await_true(lambda: time.monotonic() > until, seconds + 30)
    server.kill()
    shutil.rmtree(server.directory)
    kept.rename(server.directory)
    server.start()


@pytest.mark.chaos
@pytest.mark.server_settings(redis=DURABLE)
@pytest.mark.parametrize("missing", [0.0, 1.0, 3.0], ids=["nothing", "a second", "three seconds"])
def test_a_redis_that_restarts_with_its_data_or_without_the_last_seconds(
    start: Start, kafka: str, redis_process: ServerHandle, missing: float
) -> None:
    """2,000 members of 20 ms; SIGKILL to Redis meanwhile; it restarts with its append-only file, or with a copy of
    it from some seconds before, within the loss window of 5 s."""
    if not isinstance(redis_process, ServerProcess):
        pytest.skip("the test cannot copy files of a container")
    cluster = start(kafka, redis_process.address)
    user = User(cluster)
    document = two_rounds(2_000)
    user.produce(document)
    user.await_records(lambda seen: seen.topic == "events" and b"task.completed" in seen.value)

    roll_back(redis_process, missing)

    final = user.await_final(document["request_id"], 240).body
    assert resolved(user, final, "out") == resolved(user, final, "again") == list(range(2_000))
    await_true(lambda: user.value(final["session_id"], "again") is not None, 240, cluster.logs)
    user.close()


@pytest.mark.chaos
@pytest.mark.server_settings(redis=DURABLE)
def test_a_redis_without_its_replicas_refuses_writes_and_only_delays_runs(
    start: Start, kafka: str, redis_process: ServerHandle
) -> None:
    """`min-replicas-to-write 1` without a replica for 10 s, during 100 members of 1 s: reads succeed, writes
    fail."""
    cluster = start(kafka, redis_process.address)
    user = User(cluster)
    task = fan_out(100) | {"agent": "traced", "inputs": {"seconds": 1.0, "value": "{n}"}}
    document = request(task)
    user.produce(document)
    user.await_records(lambda seen: seen.topic == "events" and b"task.completed" in seen.value)

    user.redis.config_set("min-replicas-to-write", "1")
    back = time.monotonic() + 10
    await_true(lambda: time.monotonic() > back, 30)
    user.redis.config_set("min-replicas-to-write", "0")

    final = user.await_final(document["request_id"], 240).body
    assert resolved(user, final, "out") == list(range(100))
    assert set(calls_of(cluster).values()) == {1}
    user.close()


@pytest.mark.chaos
@pytest.mark.server_settings(redis={"appendonly": "no"})
def test_services_restore_an_emptied_redis_and_a_request_is_not_run_twice(
    start: Start, kafka: str, redis_process: ServerHandle
) -> None:
    """A run ends; every service is stopped; Redis restarts empty; the services start; the request is sent again.
    Then FLUSHALL while services run, and `anabranch rebuild --all` finds nothing to restore."""
    cluster = start(kafka, redis_process.address)
    user = User(cluster)
    document = two_rounds(3_000)
    before = user.run(document, 240)
    called = calls_of(cluster)

    for process in list(cluster.processes):
        process.terminate()
    redis_process.kill()
    redis_process.start()
    for service in ("agency", "eventmanager"):
        cluster.start(service).await_ready()
    cluster.start("taskgroup", "--agents", "system_agents", "--concurrency", "8").await_ready()
    user.seen.clear()
    again = user.run(document, 240)

    assert again == before
    assert calls_of(cluster) == called
    assert resolved(user, before, "again") == list(range(3_000))

    user.redis.flushall()
    await_true(lambda: user.value(before["session_id"], "again") is not None, 240, cluster.logs)
    await_true(lambda: cluster.run("status", before["run_id"]).returncode == 0, 240, cluster.logs)
    done = cluster.run("rebuild", "--all", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["gone"] == []
    assert json.loads(done.stdout)["written"]["tombstones"] == 0
    user.close()


# --- all faults ----------------------------------------------------------------------------------


@pytest.mark.chaos
def test_a_storm_of_all_faults(tmp_path: Path) -> None:
    """Two minutes of all kinds of faults on separate servers; `make soak` is the same for longer."""
    with installation(tmp_path, chosen_seed(10)) as injector:
        weather(injector, 120, 8, chosen_mix())
