"""Agents end in every possible way on workers with real servers: their members end, and the workers survive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_endings import ENDINGS, table
from cluster import Cluster, User

SUPPORT = Path(__file__).parents[1] / "support"
DOCS = SUPPORT.parents[1] / "docs" / "agents.md"


@pytest.fixture
def cluster(kafka: str, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Cluster]:
    """One worker: if it died, every run would stay open."""
    environ = {"PYTHONPATH": os.pathsep.join(filter(None, (str(SUPPORT), os.environ.get("PYTHONPATH"))))}
    cluster = Cluster(tmp_path, kafka, redis_url, prefix, environ)
    try:
        cluster.start_all(workers=1, agents="ending_agents")
        yield cluster
    finally:
        cluster.stop()


def task_of(number: int) -> dict[str, Any]:
    """A task whose agent ends in this way."""
    retry = {"strategy": "immediate", "max_attempts": 2}
    named = {"name": f"t{number}", "agent": f"ends-{number}", "result_keys": [f"t{number}"], "retry": retry}
    return {**named, **ENDINGS[number].more}


def types_in_docs() -> dict[str, str]:
    """The error type of each ending in the docs' table, by its words; empty if it completes."""
    text = DOCS.read_text(encoding="utf-8")
    lines = text[text.index(table([]).split("\n", 1)[0]) :].split("\n\n", 1)[0].splitlines()[2:]
    cells = [line.split("|") for line in lines]
    return {each[1].strip(): each[3].strip(" `") for each in cells}


@pytest.mark.timeout(240)
def test_no_ending_of_an_agent_ends_its_worker(cluster: Cluster) -> None:
    [worker] = cluster.of("taskgroup")
    numbers = [number for number, ending in enumerate(ENDINGS) if "RetryLater" not in ending.words]
    unopened = {"name": "unopened", "agent": "echo", "inputs": 1, "result_keys": ["unopened"]}
    user = User(cluster)
    final = user.run({"task_groups": [{"name": "g", "tasks": [*map(task_of, numbers), unopened]}]}, seconds=120)
    after = user.run({"task_groups": [{"name": "g", "tasks": [{**unopened, "name": "after"}]}]}, seconds=60)
    user.close()

    found = {each["task"]: each["error_type"] for each in final["failures"]}
    assert found.pop("unopened") == "LookupError"
    expected = {f"t{number}": types_in_docs()[ENDINGS[number].words] for number in numbers}
    assert found == {name: kind for name, kind in expected.items() if kind}
    assert after["status"] == "completed"
    assert cluster.of("taskgroup") == [worker], "the same worker started and ended them"
