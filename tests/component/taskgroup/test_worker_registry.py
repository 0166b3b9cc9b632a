"""The list of live workers and their agents: complete within seconds, and without workers that have died."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from many_workers import Installation, WorkerOf, installation_of
from small_requests import request, task

import anabranch
from anabranch import Registry, Task, agent
from anabranch.core.errors import ServerUnavailable
from anabranch.core.wire.worker_card import (
    MAX_SCHEMA_BYTES,
    AgentCard,
    WorkerCard,
    agents_of,
    shown_retry,
    without_large_schemas,
)

LEASE = 6.0


@agent(
    "review",
    version=2,
    capabilities=["code_review", "audit"],
    input_schema={"type": "object"},
    retry={"strategy": "fixed", "max_attempts": 3},
    timeout="1m",
)
async def review(task: Task) -> str:
    await asyncio.sleep(10)
    return "fine"


@agent("count")
async def count(task: Task) -> int:
    return 1


def workers_of(system: Installation) -> list[dict[str, Any]]:
    return system.wait(system.client.workers())


def two_workers() -> Any:
    return installation_of(
        WorkerOf(Registry().add(review).add(count), {"concurrency": 3}), WorkerOf(Registry().add(count))
    )


def test_workers_and_agents_are_listed_with_their_declarations_and_load() -> None:
    with two_workers() as system:
        run = system.wait(system.client.submit(request(task("a", "review"), task("b", "review"))))
        system.wait(asyncio.sleep(4))
        workers = {tuple(each["agents"]): each for each in workers_of(system)}
        agents = {each["name"]: each for each in system.wait(system.client.agents())}
        system.wait(run.result())

    busy, idle = workers["review", "count"], workers["count",]
    assert (busy["slots"], busy["load"]) == (3, {"chunks": 2, "members": 2})
    assert (idle["load"], idle["draining"], idle["pool"]) == ({"chunks": 0, "members": 0}, False, "default")
    assert (busy["version"], busy["pid"] > 0, busy["host"] != "") == (anabranch.__version__, True, True)
    found = agents["review"]
    assert (found["version"], found["capabilities"]) == ("2", ["audit", "code_review"])
    assert found["schema"] == {"input": {"type": "object"}, "output": None}
    assert (found["timeout"], found["retry"]) == (60.0, {"strategy": "fixed", "max_attempts": 3})
    assert (found["workers"], found["pools"], found["slots"]) == ([busy["id"]], ["default"], 3)
    assert len(agents["count"]["workers"]) == 2


def test_a_worker_that_stops_leaves_at_once_and_one_that_dies_within_its_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with two_workers() as system:
        first, second = system.services[1:]

        async def away(*_: Any) -> None:
            raise ServerUnavailable("Redis", "here", "the process is dead")

        monkeypatch.setattr(first._worker._liveness, "show", away)  # type: ignore[attr-defined]
        system.wait(asyncio.sleep(LEASE + 0.1))
        assert [each["id"] for each in workers_of(system)] == [second._worker._incarnation]  # type: ignore[attr-defined]

        system.wait(second.stop())
        assert workers_of(system) == []
        assert system.wait(system.client.agents()) == []


def test_a_store_that_lost_everything_has_the_workers_again_within_a_heartbeat() -> None:
    with two_workers() as system:
        known = workers_of(system)
        system.server.restart()
        assert workers_of(system) == []

        system.wait(asyncio.sleep(LEASE / 3 + 0.1))

        assert workers_of(system) == known


def test_an_agent_that_workers_declare_differently_has_an_entry_for_each_declaration() -> None:
    old, new = AgentCard(name="a", version="1"), AgentCard(name="a", version="2")
    cards = [WorkerCard(id=name, slots=2, agents=(each,)) for name, each in (("x", new), ("y", old), ("z", old))]

    assert [(each["version"], each["workers"], each["slots"]) for each in agents_of(cards)] == [
        ("1", ["y", "z"], 4),
        ("2", ["x"], 2),
    ]


def test_large_schemas_are_left_out_of_the_card_and_small_ones_stay() -> None:
    large = {"description": "x" * MAX_SCHEMA_BYTES}
    kept = without_large_schemas(
        [AgentCard(name="a", input_schema={"type": "object"}), AgentCard(name="b", output_schema=large)]
    )
    assert [(each.input_schema, each.output_schema) for each in kept] == [({"type": "object"}, None), (None, None)]


def test_a_retry_policy_is_shown_in_words() -> None:
    assert [shown_retry(each) for each in (None, {"strategy": "none"}, {"strategy": "fixed"})] == ["", "", "fixed"]
    assert shown_retry({"strategy": "fixed", "max_attempts": 3}) == "fixed, 3 attempts"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"capabilities": "code_review"}, "write a list"),
        ({"capabilities": ["a/b"]}, "capability 'a/b'"),
        ({"capabilities": [3]}, "must be text"),
        ({"version": ""}, "version of the agent"),
        ({"version": True}, "version of the agent"),
    ],
)
def test_a_wrong_declaration_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        agent("x", **wrong)


@pytest.mark.parametrize("schema", [[1], {"a": {1, 2}}])
def test_a_schema_that_is_no_object_of_json_is_refused(schema: Any) -> None:
    with pytest.raises(TypeError, match="input_schema of the agent 'x'"):
        agent("x", input_schema=schema)
