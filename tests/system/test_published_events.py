"""Events by name and key on separate processes: before their wait, from the command, and after a killed owner."""

from __future__ import annotations

import json
from typing import Any

from cluster import Cluster, User, await_true
from requests_made import request


def waits(name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "wait": {"event": {"name": "paid", "key": key}, **more}, "result_keys": [name]}


def event(key: str, data: Any, event_id: str) -> dict[str, Any]:
    return {"type": "event", "name": "paid", "key": key, "id": event_id, "data": data}


def test_an_event_before_its_wait_is_kept_by_the_next_owner_too(cluster: Cluster, user: User) -> None:
    user.produce(event("order-1", {"n": 1}, "e1"))
    user.produce(event("order-1", {"n": 1}, "e1"))
    kept = request(waits("first", "order-1"))
    assert user.run(kept)["results"] == {"first": {"n": 1}}
    [agency] = cluster.of("agency")
    agency.kill()
    cluster.start("agency")

    after = request(
        waits("again", "order-1"), waits("none", "order-1", timeout=3, on_timeout="value", value="none")
    )

    assert user.run(after, seconds=120)["results"] == {"again": {"n": 1}, "none": "none"}


def test_the_command_publishes_an_event_for_a_run_that_waits(cluster: Cluster, user: User) -> None:
    document = request(
        waits("w", "order-2"), {"name": "tell", "agent": "emit", "inputs": {"name": "told", "key": 7}}
    )
    user.produce(document)

    def is_waiting() -> bool:
        shown = cluster.run("why", document["request_id"], "--json")
        if shown.returncode != 0:
            return False
        missing = json.loads(shown.stdout).get("missing", [])
        return [(each["fact"], each["name"], each["key"]) for each in missing] == [
            ("waits_for_event", "paid", "order-2")
        ]

    await_true(is_waiting, 60)
    published = cluster.run("publish", "paid", "order-2", '{"ok": true}', "--id", "p1", "--json")

    assert json.loads(published.stdout) == {"name": "paid", "key": "order-2", "id": "p1"}
    results = user.await_final(document["request_id"]).body["results"]
    assert results["w"] == {"ok": True}
    told = {"name": "t", "wait": {"event": {"name": "told", "key": "7"}}, "result_keys": ["t"]}
    assert user.run(request(told))["results"] == {"t": None}
