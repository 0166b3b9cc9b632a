"""Where and when work runs on real servers: levels, keys, pools, limits, breakers and schedules, while owners are
killed. Calls are counted by what agents note."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cluster import FINAL, Cluster, Process, User, await_true, cluster_with_agents
from effects import Effect, begun, effects, most_at_once
from requests_made import request

from anabranch.core.timestamps import utc_text

# The first test starts the cluster, too.
pytestmark = pytest.mark.timeout(300)

Json = dict[str, Any]
SLOTS = 8
CHUNK_MEMBERS = 20
"""Of members of 50 ms: a chunk is about a second of work."""
LEVELS = ("critical", "high", "low")
COOLDOWN = 2.0
FIRING_SECONDS = 18
OVERLAPS = ("allow", "skip")


@pytest.fixture(scope="module")
def cluster(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An Agency, two workers of 8 slots in the default pool, and one of a single slot in the pool `gpu`."""
    prefix = f"o{os.getpid()}x{os.urandom(3).hex()}."
    cluster = cluster_with_agents(tmp_path_factory.mktemp("pools"), kafka, redis_url, prefix)
    try:
        cluster.start_all(workers=2, agents="system_agents", concurrency=SLOTS)
        gpu = cluster.start("taskgroup", "--agents", "system_agents", "--concurrency", "1", "--pool", "gpu")
        gpu.await_ready()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def mark() -> str:
    """Marks the calls of one test."""
    return uuid.uuid4().hex[:8]


def task(mark: str, agent: str = "effect", **inputs: Any) -> Json:
    return {"name": "t", "agent": agent, "inputs": {"mark": mark, **inputs}}


def members(count: int, single: Json, **more: Any) -> Json:
    rules = {"sequence": {"n": {"start": 1, "end": count}}}
    return single | {"expansion_config": {"type": "custom", "transform_rules": rules}} | more


def in_pool(cluster: Cluster, pool: str) -> list[Process]:
    return [each for each in cluster.of("taskgroup") if ("gpu" in each.options) == (pool == "gpu")]


def pids(processes: Sequence[Process]) -> set[int]:
    return {each.popen.pid for each in processes}


def await_begun(cluster: Cluster, count: int, *marks: str) -> None:
    await_true(lambda: len(begun(cluster.folder, *marks)) >= count, 60, cluster.logs)


def run_all(user: User, documents: Sequence[Json]) -> None:
    for document in documents:
        user.produce(document)


def finals(user: User, documents: Sequence[Json]) -> list[Json]:
    return [user.await_final(each["request_id"], 120).body for each in documents]


def statuses(user: User, documents: Sequence[Json]) -> set[str]:
    return {each["status"] for each in finals(user, documents)}


# --- levels, keys and pools ------------------------------------------------------------------------


def test_of_sixteen_chunks_one_is_of_the_lowest_level(cluster: Cluster, mark: str, tmp_path: Path) -> None:
    user = User(cluster, ("results", "tasks.gpu"))  # levels have no topics yet
    gate = tmp_path / "gate"
    blocking = request(task(f"{mark}gate", gate=str(gate)), pool="gpu")
    user.produce(blocking)
    await_begun(cluster, 1, f"{mark}gate")  # the only slot of the pool is taken, so that the others wait

    def level(name: str, single: Json) -> Json:
        return request(single, pool="gpu", priority=name)

    # Of so few members each is a chunk.
    documents = [level("low", members(8, task(f"{mark}low", seconds=0.01))) for _ in range(3)]
    documents += [level("high", members(8, task(f"{mark}high", seconds=0.01))) for _ in range(8)]
    documents.append(level("critical", task(f"{mark}critical")))
    run_all(user, documents)
    user.await_records(lambda seen: seen.topic == "tasks.gpu", 1 + 24 + 64 + 1)
    why = cluster.run("why", documents[0]["request_id"]).stdout
    gate.touch()

    assert statuses(user, [blocking, *documents]) == {"completed"}
    assert "offers of level high" in " ".join(why.split())
    calls = begun(cluster.folder, *(f"{mark}{name}" for name in LEVELS))
    assert {each.pid for each in calls} == pids(in_pool(cluster, "gpu"))
    order = [each.mark.removeprefix(mark) for each in calls]
    # One chunk had been chosen for the slot before the critical one came.
    assert order.index("critical") <= 1
    order.remove("critical")
    both = order[: len(order) - order[::-1].index("high")]
    assert all("low" in both[first : first + 16] for first in range(len(both) - 15)), order
    assert both.count("high") == 64
    assert both.count("low") <= 6
    user.close()


def test_a_single_task_overtakes_a_backlog(cluster: Cluster, user: User, mark: str) -> None:
    backlog = request(members(6_000, task(mark, seconds=0.05)), priority="low", fairness_key="a")
    user.produce(backlog)
    await_begun(cluster, 1_000, mark)  # its chunks have been measured
    cases: Mapping[str, Json] = {
        "critical": {"priority": "critical", "fairness_key": "a"},
        "another key": {"priority": "low", "fairness_key": "b"},
        "another pool": {"priority": "low", "fairness_key": "a", "pool": "gpu"},
    }
    for name, fields in cases.items():
        at = time.time()
        final = user.run(request(task(f"{mark}{name}"), **fields))
        [call] = begun(cluster.folder, f"{mark}{name}")
        ahead = [each for each in begun(cluster.folder, mark) if at < each.at < call.at]

        assert final["status"] == "completed"
        # What remains of the chunk that each slot runs, at most.
        assert len(ahead) <= 2 * SLOTS * CHUNK_MEMBERS, name
        assert (call.pid in pids(in_pool(cluster, "gpu"))) == (name == "another pool")
    user.produce({"type": "cancel", "request_id": backlog["request_id"]})
    assert statuses(user, [backlog]) == {"cancelled"}
    assert {each.pid for each in begun(cluster.folder, mark)} == pids(in_pool(cluster, "default"))


# --- limits ----------------------------------------------------------------------------------------


def test_a_rate_holds_within_one_window_of_a_burst(cluster: Cluster, user: User, mark: str) -> None:
    rate = {"key": "provider", "limit": 10, "per": "1s", "burst": 5}
    single = task(mark)
    documents = [request(members(20, single, rate_limit=rate), pool=pool) for pool in ("default", "gpu")]
    run_all(user, documents)

    assert statuses(user, documents) == {"completed"}
    began = [each.at for each in begun(cluster.folder, mark)]
    assert len(began) == 40
    assert began[-1] - began[0] >= 3.0
    assert max(sum(at <= each < at + 1.0 for each in began) for at in began) <= 25


def test_a_breaker_opens_has_members_wait_and_closes_by_a_probe(
    cluster: Cluster, user: User, mark: str, tmp_path: Path
) -> None:
    until = tmp_path / "mended"
    single = members(12, task(mark, "provider", until=str(until)), tolerated_failures="100%", max_concurrency=2)
    documents = [request(single, pool=pool) for pool in ("default", "gpu")]
    run_all(user, documents)

    # Its first calls, and a probe that fails.
    await_true(lambda: len(bursts(begun(cluster.folder, mark))) == 2, 60, cluster.logs)
    [breaker] = json.loads(cluster.run("limits", "--json").stdout)["limits"]
    until.touch()
    ended = finals(user, documents)

    assert (breaker["kind"], breaker["key"]) == ("breaker", "provider")
    assert breaker["state"] in ("open", "half_open")
    assert breaker["waiting"] > 0
    [first, *probes, rest] = bursts(begun(cluster.folder, mark))
    assert 3 <= len(first) <= 8
    assert {len(each) for each in probes} == {1}
    # The probe that passes has ended before others begin.
    [passed] = [each for each in effects(cluster.folder, mark) if (each.key, each.what) == (rest[0].key, "ended")]
    assert len(rest) == 24 - len(first) - len(probes)
    assert passed.at < rest[1].at
    assert {each["status"] for each in ended} == {"completed"}
    failures = [failure for each in ended for failure in each["failures"]]
    assert len(failures) == len(first) + len(probes)
    assert {failure["attempts"] for failure in failures} == {1}  # to wait is no attempt


def bursts(calls: Sequence[Effect]) -> list[list[Effect]]:
    """The calls, parted where none began for the time that a breaker is open."""
    parted = [list(calls[:1])]
    for before, call in pairwise(calls):
        if call.at - before.at >= COOLDOWN:
            parted.append([])
        parted[-1].append(call)
    return parted


def test_a_key_of_three_never_runs_four_while_owners_are_killed(cluster: Cluster, user: User, mark: str) -> None:
    single = members(15, task(mark, seconds=0.3), concurrency={"key": "db", "limit": 3})
    documents = [request(single, pool=pool) for pool in ("default", "gpu", "default")]
    run_all(user, documents)
    await_begun(cluster, 4, mark)
    killed: dict[int, float] = {}
    for victims in ([*cluster.of("agency"), *in_pool(cluster, "gpu")], in_pool(cluster, "default")[:1]):
        before = len(begun(cluster.folder, mark))
        for victim in victims:
            cluster.replace(victim)
            killed[victim.popen.pid] = time.time()
        await_begun(cluster, before + 6, mark)

    assert statuses(user, documents) == {"completed"}
    assert most_at_once(effects(cluster.folder, mark), killed) == 3


# --- schedules -------------------------------------------------------------------------------------


def test_each_firing_is_one_run_or_missed_while_the_owner_is_killed(cluster: Cluster, mark: str) -> None:
    user = User(cluster, ("results", "events"))
    last = int(time.time()) + FIRING_SECONDS
    for overlap in OVERLAPS:
        body = {"task_groups": request(task(f"{mark}-{overlap}@{{scheduled_at}}"))["task_groups"]}
        fields = {"id": f"{mark}-{overlap}", "every": "1s", "to": utc_text(float(last)), "overlap": overlap}
        user.produce({"type": "schedule", "action": "put", "request": body, **fields})
    await_true(lambda: all(len(ran(user, mark, each)) >= 2 for each in OVERLAPS), 60, cluster.logs)
    [agency] = cluster.of("agency")
    cluster.replace(agency)
    times = {each: seconds_between(min(ran(user, mark, each)), last) for each in OVERLAPS}

    def all_known() -> bool:
        return all(ran(user, mark, each) | missed(user, mark, each) >= times[each] for each in OVERLAPS)

    await_true(all_known, 60, cluster.logs)
    assert (ran(user, mark, "allow"), missed(user, mark, "allow")) == (times["allow"], set())
    assert missed(user, mark, "skip")
    assert ran(user, mark, "skip") | missed(user, mark, "skip") == times["skip"]
    assert ran(user, mark, "skip") & missed(user, mark, "skip") == set()
    # Each run exists once, and has one final record, however often that is repeated.
    firings = [f"{mark}-{each}@{at}" for each in OVERLAPS for at in ran(user, mark, each)]
    assert Counter(each.mark for each in begun(cluster.folder, *firings)) == Counter(firings)
    finals_of = {(seen.body["request_id"], seen.headers["ce_id"]) for seen in user.seen if seen.kind in FINAL}
    assert Counter(each for each, _ in finals_of if mark in each) == Counter(firings)
    shown = cluster.run("schedules", "show", f"{mark}-skip").stdout
    assert f"{len(missed(user, mark, 'skip'))} by overlap" in shown
    user.close()


def seconds_between(first: str, last: int) -> set[str]:
    start = round(datetime.fromisoformat(first).timestamp())
    return {utc_text(float(at)) for at in range(start, last + 1)}


def ran(user: User, mark: str, overlap: str) -> set[str]:
    """The logical times that became runs which have completed."""
    user.read()
    ended = (seen.body["request_id"] for seen in user.seen if seen.kind == "run.completed")
    return {at for schedule, _, at in (each.partition("@") for each in ended) if schedule == f"{mark}-{overlap}"}


def missed(user: User, mark: str, overlap: str) -> set[str]:
    """The logical times that were reported as missed because the run of an earlier one was open."""
    entries = (each for seen in user.seen if seen.topic == "events" for each in seen.body["entries"])
    found = (each["data"] for each in entries if each["type"] == "schedule.missed")
    return {each["at"] for each in found if (each["schedule"], each["reason"]) == (f"{mark}-{overlap}", "overlap")}
