"""Members as real containers: a worker is killed amid them, each has its effect once, and a cancel leaves nothing.

Run by `make container-test` with an engine, and skipped by `make chaos` without one.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import FINAL, Cluster, User, await_true, cluster_with_agents
from container_effects import ENGINE_VARIABLE, MEMBER_CODE, EffectCounter, TestEngine, effect_counter, test_engine
from requests_made import request, resolved

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
MEMBERS = 200
AT_ONCE = 8


@pytest.fixture
def engine() -> TestEngine:
    found = test_engine()
    if found is None:
        pytest.skip(f"{ENGINE_VARIABLE} names no container engine; see make container-test")
    return found


@pytest.fixture
def counter(engine: TestEngine, prefix: str) -> Iterator[EffectCounter]:
    with effect_counter(engine, prefix.strip(".")) as counter:
        yield counter


@pytest.fixture
def containers(
    engine: TestEngine, counter: EffectCounter, kafka: str, redis_url: str, prefix: str, tmp_path: Path
) -> Iterator[Cluster]:
    """Two workers with an agent `member` that runs containers on the network of the counter."""
    agent = {
        "kind": "container",
        "image": engine.image,
        "command": ["python3", "-c", MEMBER_CODE],
        "resources": {"cpu": 1, "memory": "128Mi"},
        "options": {"network": counter.network},
    }
    (tmp_path / "agents.json").write_text(json.dumps({"member": agent}))
    cluster = cluster_with_agents(
        tmp_path,
        kafka,
        redis_url,
        prefix,
        ANABRANCH_EXECUTORS="container",
        ANABRANCH_AGENT_FILES=str(tmp_path / "agents.json"),
        ANABRANCH_CONTAINER_SOCKET=engine.address,
        ANABRANCH_CONTAINER_CONCURRENCY=str(AT_ONCE),
        ANABRANCH_ORPHAN_SECONDS="5",
    )
    try:
        cluster.start_all(workers=2)
        yield cluster
    finally:
        cluster.stop()
        for each in engine.containers(prefix):
            engine.call("DELETE", f"/containers/{each['Id']}?force=true&v=true")


def fan_out(counter: EffectCounter, mark: str, seconds: float) -> dict[str, object]:
    inputs = {"n": "{n}", "mark": mark, "seconds": seconds, "host": counter.host, "port": counter.port}
    rules = {"sequence": {"n": {"start": 0, "end": MEMBERS - 1}}}
    config = {"type": "custom", "transform_rules": rules}
    return request(
        {"name": "t", "agent": "member", "inputs": inputs, "result_keys": ["out"], "expansion_config": config}
    )


def test_a_worker_is_killed_amid_200_containers_and_each_has_its_effect_once(
    engine: TestEngine, counter: EffectCounter, containers: Cluster, prefix: str
) -> None:
    user = User(containers)
    volumes = engine.volumes()
    document = fan_out(counter, "kill", 6.0)
    began = time.monotonic()
    user.produce(document)
    running = 0

    def is_amid_it() -> bool:
        nonlocal running
        if len(counter.of("kill")) < MEMBERS // 4:
            return False
        running = sum(each["State"] == "running" for each in engine.containers(prefix))
        return running >= AT_ONCE // 2

    await_true(is_amid_it, 600, containers.logs)
    containers.replace(containers.of("taskgroup")[0])
    killed = time.monotonic()
    assert not any(seen.kind in FINAL for seen in user.seen), "too late: the run had ended"
    final = user.await_final(str(document["request_id"]), 900).body

    print(f"{running} containers ran before the kill, {killed - began:.1f} s after the request")
    print(f"completed {time.monotonic() - began:.1f} s after the request")
    failed = [seen.value.decode()[:2000] for seen in user.seen if seen.topic == "dead-letters"]
    assert failed == [], "\n".join(failed)
    assert final["status"] == "completed"
    assert resolved(user, final, "out") == [n * 2 for n in range(MEMBERS)]
    assert Counter((each["n"], each["attempt"]) for each in counter.of("kill")) == {
        (n, "1"): 1 for n in range(MEMBERS)
    }
    await_true(lambda: engine.containers(prefix) == [], 300, containers.logs)
    assert engine.volumes() == volumes
    user.close()


def test_a_cancel_removes_the_containers_also_without_a_worker(
    engine: TestEngine, counter: EffectCounter, containers: Cluster, prefix: str
) -> None:
    """One worker is killed first, so that the containers that it started have none."""
    user = User(containers)
    document = fan_out(counter, "cancel", 3600.0)
    user.produce(document)
    await_true(lambda: len(counter.of("cancel")) >= 2 * AT_ONCE, 600, containers.logs)

    containers.of("taskgroup")[1].kill()
    user.produce({"type": "cancel", "request_id": document["request_id"]})
    cancelled = time.monotonic()
    final = user.await_final(str(document["request_id"]), 300).body

    assert final["status"] == "cancelled"
    await_true(lambda: engine.containers(prefix) == [], 300, containers.logs)
    print(f"no container is left {time.monotonic() - cancelled:.1f} s after the cancel")
    user.close()
