"""Budgets and the cache of results on separate processes: what runs, what it costs, what is not called again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chaos import chosen_seed
from cluster import Cluster, Start, User
from requests_made import fan_out, request, resolved

WORKERS, SLOTS, PRICE = 3, 8, 0.001


def pays(count: int, seconds: float = 0.0, **more: Any) -> dict[str, Any]:
    return fan_out(count) | {"agent": "pays", "inputs": {"usd": PRICE, "seconds": seconds, "n": "{n}"}, **more}


def calls(cluster: Cluster, run_id: str) -> Sequence[str]:
    """The members of a run that agents were called for."""
    return [
        line.split()[1]
        for line in (cluster.folder / "trace.txt").read_text().splitlines()
        if line.startswith(run_id)
    ]


def test_a_budget_stops_a_fan_out_of_ten_thousand(start: Start, kafka: str, redis_url: str) -> None:
    cluster = start(kafka, redis_url, workers=WORKERS)
    user = User(cluster)
    try:
        final = user.run(request(pays(10_000, 0.005), budget={"usd": 0.5}), seconds=120)
        kept = resolved(user, final, "out")
    finally:
        user.close()

    started = len(calls(cluster, final["run_id"]))
    assert (final["status"], final["failures"][0]["error_type"]) == ("failed", "BudgetExceeded")
    # Within one chunk for each worker, which has about a second of work.
    assert 500 <= started <= 500 + WORKERS * 100
    assert final["costs"]["usd"] == round(started * PRICE, 9)
    assert (final["costs"]["tokens"], final["costs"]["executions"]) == (started, started)
    assert len(kept) == final["executions"]["completed"] == started


def test_an_estimate_makes_a_budget_exact_while_owners_are_killed(
    start: Start, kafka: str, redis_url: str
) -> None:
    cluster = start(kafka, redis_url, workers=WORKERS)
    user = User(cluster)
    document = request(pays(2_000, 0.05, estimate={"usd": PRICE}), budget={"usd": 0.4})
    try:
        user.produce(document)
        user.await_records(lambda each: b"task.completed" in each.value, count=1, seconds=60)
        victim = cluster.of("taskgroup")[chosen_seed(3) % WORKERS]
        victim.kill()
        cluster.start("taskgroup", "--agents", "system_agents", "--concurrency", str(SLOTS))
        final = user.await_final(document["request_id"], seconds=120).body
    finally:
        user.close()

    assert final["status"] == "failed"
    completed = final["executions"]["completed"]
    assert 400 - WORKERS * SLOTS * 2 <= completed <= 400
    assert final["costs"]["usd"] <= 0.4


def test_a_cache_hit_costs_no_call(cluster: Cluster, user: User) -> None:
    task = pays(300, cache={"ttl": "1h"})
    first, second = (user.run(request(task), seconds=90) for _ in range(2))

    assert (first["status"], second["status"]) == ("completed", "completed")
    assert (len(calls(cluster, first["run_id"])), calls(cluster, second["run_id"])) == (300, [])
    assert second["results"] == first["results"]
    assert (first["costs"]["usd"], second["costs"]["usd"], second["costs"]["executions"]) == (0.3, 0, 0)
