"""The three workflows of `examples/` on real servers; requests and decisions are records of Kafka."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import Cluster, User
from source_tree import ROOT

from anabranch.core.names import run_id_for

EXAMPLES = ROOT / "examples"
AGENTS = "delivery_agents,warehouse_agents,review_agents"


@pytest.fixture(scope="module")
def cluster(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Services with the agents of the examples."""
    prefix = f"s{os.getpid()}x{os.urandom(3).hex()}."
    path = os.pathsep.join(filter(None, (str(EXAMPLES), os.environ.get("PYTHONPATH"))))
    folder: Path = tmp_path_factory.mktemp("examples")
    cluster = Cluster(folder, kafka, redis_url, prefix, {"PYTHONPATH": path, "CI": ""})
    try:
        cluster.start_all(workers=2, agents=AGENTS)
        yield cluster
    finally:
        cluster.stop()


def example(name: str, **context: Any) -> dict[str, Any]:
    """The request of an example, with short waits."""
    text = (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
    for long, short in (("delay: 1m", "delay: 50ms"), ("for: 10m", "for: 200ms"), ("delay: 1s", "delay: 50ms")):
        text = text.replace(long, short)
    document = yaml.safe_load(text)
    return {**document, "request_id": str(uuid.uuid4()), "context": document["context"] | context}


def decided(user: User, document: dict[str, Any], task: str, decision: str, data: Any = None) -> dict[str, Any]:
    """Submit a request, decide about a task once it waits for a person, and return the final record."""
    run_id = run_id_for(document["request_id"])
    user.produce(document)
    user.await_records(lambda s: s.topic == "events" and s.key == run_id and b'"approval"' in s.value)
    user.produce({"type": "approve", "run_id": run_id, "task": task, "decision": decision, "data": data})
    return user.await_final(document["request_id"]).body


def test_a_delivery_waits_for_a_person_and_is_undone_after_a_failed_check(user: User) -> None:
    approved = decided(user, example("delivery"), "release", "approve")
    undone = decided(user, example("delivery", red=["production"]), "release", "approve")

    assert approved["status"] == "completed", approved["failures"]
    assert approved["results"]["tell"] == "delivery of 9f3c2ab41d: completed"
    assert (undone["status"], undone["compensation"]) == ("failed", "complete")


def test_a_warehouse_loads_what_can_be_read(user: User) -> None:
    final = user.run(example("warehouse", sources=["orders", "fees", "lost"]))

    assert final["status"] == "completed", final["failures"]
    assert final["results"]["report"] == "4 rows in sales, sum 52"


def test_a_review_repeats_corrections_and_takes_the_decision_of_a_person(user: User) -> None:
    final = decided(user, example("review"), "opinion", "discuss", {"remark": "why?"})

    assert final["status"] == "completed", final["failures"]
    assert final["results"]["polish.loop"] == {"iterations": 2, "ended_by": "condition"}
    assert final["results"]["note"].endswith("is in discussion: why?")
