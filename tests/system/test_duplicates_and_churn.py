"""Duplicates of all records, workers that start and stop all the time, and many producers of one request id."""

from __future__ import annotations

import json
import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from careless_mirror import Mirror
from chaos import chosen_seed
from cluster import FINAL, Cluster, Seen, Start, User
from confluent_kafka import Producer
from requests_made import request
from soak import calls_of
from steady_load import Load
from worker_churn import Controls, Workers, paced

PRODUCERS = 50


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_mirror_that_appends_whole_partitions_again(start: Start, kafka: str, redis_url: str) -> None:
    """24 runs of 120 members. All records of `requests`, `runs`, `groups` and `tasks` are appended again while
    they run, and once more after their end. No run ends twice, no member is called twice."""
    cluster = start(kafka, redis_url, ANABRANCH_PARTITIONS="4")
    load = Load(cluster, chosen_seed(24), runs=24, members=120, pause=0.5)
    mirror = Mirror(cluster)
    load.until_ended(8)
    copied = mirror.append_again()
    assert load.is_under_way, "too late: the runs had ended"
    load.finish()

    copied += mirror.append_again()
    load.until(mirror.is_consumed)
    load.finish()

    print(f"{copied} records were appended again")
    assert load.calls == 24 * 120
    assert load.repeated == {}
    mirror.close()
    load.close()


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_sixteen_workers_come_and_go_under_269_control_records(start: Start, kafka: str, redis_url: str) -> None:
    """Every 0.3 s a record pauses, resumes, cancels or retries a run; every 3 s a worker starts or stops."""
    cluster = start(kafka, redis_url, workers=4)
    user, dice = User(cluster, ("results",)), random.Random(chosen_seed(25))
    workers, controls = Workers(cluster, dice, total=16), Controls(user, dice, members=60)

    def step(number: int) -> None:
        if number % 6 == 0:
            controls.ask()
        if number % 10 == 9:
            workers.step()
        controls.control()

    paced(user, 269, 0.3, step)
    controls.resume_all()
    finals = controls.await_all(240)

    statuses = {request_id: next(iter(seen.values())).body for request_id, seen in finals.items()}
    ends = [body["status"] for body in statuses.values()]
    print(f"{ {each: ends.count(each) for each in set(ends)} } of {len(ends)} requests and retries")
    assert (workers.started, controls.sent) == (16, 269)
    assert {request_id: len(seen) for request_id, seen in finals.items() if len(seen) > 1} == {}
    assert set(ends) == {"completed", "cancelled", "rejected"}
    lists = [body["results"]["again"] for body in statuses.values() if body["status"] == "completed"]
    assert [each for each in lists if each != list(range(60))] == []
    assert workers.ended_by_themselves() == []
    user.close()


def produce_at_once(cluster: Cluster, documents: list[dict[str, Any]]) -> None:
    """Each document has its own producer; all of them produce at the same moment."""
    barrier = Barrier(len(documents))

    def send(document: dict[str, Any]) -> None:
        producer = Producer({"bootstrap.servers": cluster.brokers, "linger.ms": 0, "log_level": 0})
        producer.list_topics(cluster.prefix + "requests", timeout=30)
        barrier.wait(60)
        producer.produce(cluster.prefix + "requests", json.dumps(document).encode())
        assert producer.flush(30) == 0

    with ThreadPoolExecutor(len(documents)) as pool:
        list(pool.map(send, documents))


@pytest.mark.parametrize("bodies", [1, 2])
def test_fifty_producers_of_one_request_id_start_one_run(cluster: Cluster, user: User, bodies: int) -> None:
    """Each gets a response: the acceptance of the one run, or a refusal if its body differs."""
    request_id = str(uuid.uuid4())
    task = {"name": "t", "agent": "traced", "result_keys": ["out"]}
    made = [request(task | {"inputs": {"value": body}}, request_id=request_id) for body in range(bodies)]
    produce_at_once(cluster, [made[number % bodies] for number in range(PRODUCERS)])

    def answers(seen: Seen) -> bool:
        return seen.kind in ("run.accepted", "run.rejected") and seen.body["request_id"] == request_id

    answered = user.await_records(answers, PRODUCERS)
    final = user.await_records(lambda s: s.kind == "run.completed" and s.body["request_id"] == request_id)[0].body
    refused = [seen.body for seen in answered if seen.kind == "run.rejected"]
    accepted = [seen for seen in answered if seen.kind == "run.accepted"]

    assert (len(accepted), len(refused)) == (PRODUCERS // bodies, PRODUCERS - PRODUCERS // bodies)
    assert len({(seen.headers["ce_id"], seen.value) for seen in accepted}) == 1
    assert {each["errors"][0]["code"] for each in refused} == ({"request_id_conflict"} if bodies > 1 else set())
    ends = [s for s in user.seen if s.kind in FINAL[:4] and s.body["request_id"] == request_id]
    assert len({seen.headers["ce_id"] for seen in ends}) == 1
    assert calls_of(cluster)[f"{final['run_id']} t"] == 1
