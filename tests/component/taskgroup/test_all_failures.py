"""A run with more failures than fit into its final record: one reference leads to all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from small_requests import array, task

from anabranch import GiveUp, Task
from anabranch.runtime.reading import values
from anabranch.testing import System

Start = Callable[..., System]


def refuses(task: Task) -> Any:
    raise GiveUp(f"{task.group} {task.index}: " + "why " * 20)


def run_of(start: Start, **members: int) -> tuple[System, dict[str, Any]]:
    """A run with a group for each name, all of whose members fail; returns the body of its final record too."""
    s = start(agents={"refuses": refuses})
    groups = [
        {
            "name": name,
            "tasks": [task(name, "refuses", "{item}", expansion_config=array(list(range(count))))],
        }
        for name, count in members.items()
    ]
    s.run({"task_groups": groups}, timeout=600)
    bodies = [orjson.loads(record.value) for record in s.records("results")]
    return s, next(body for body in bodies if body["status"] == "failed")


@pytest.mark.parametrize(
    "members",
    [{"a": 1_500}, {"a": 1_100, "b": 3, "c": 1_200}, {"a": 900, "b": 900, "c": 900}, {"a": 3, "b": 1_001}],
)
def test_the_reference_leads_to_all_failures(anabranch_system: Start, members: dict[str, int]) -> None:
    s, final = run_of(anabranch_system, **members)
    client = s.embedded.client

    found = s.wait(values.resolve(client.store, client.names, final["all_failures"], within=final["session_id"]))

    assert final["failure_count"] == final["all_failures"]["count"] == len(found) == sum(members.values())
    assert len(final["failures"]) < len(found)
    listed = {(each["group"], each["index"]) for each in found}
    assert listed == {(name, index) for name, count in members.items() for index in range(count)}


def test_there_is_no_reference_if_the_record_has_all_failures(anabranch_system: Start) -> None:
    _, final = run_of(anabranch_system, a=3, b=2)

    assert (len(final["failures"]), final["failure_count"], final["all_failures"]) == (5, 5, None)
