"""Limits of agents and projects that a configuration sets, in a whole system with virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from owner_changes import Installation

import anabranch
from anabranch import Task
from anabranch.core.request.configured_limits import ConfiguredLimits
from anabranch.testing import System

Start = Callable[..., System]


class Gauge:
    """An agent that takes a second, and measures how many of it run at once, by project, and when each began."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.began: list[float] = []

    async def call(self, task: Task) -> None:
        for key in ("all", str(task.inputs)):
            self.running[key] += 1
            self.most[key] = max(self.most[key], self.running[key])
        self.began.append(asyncio.get_running_loop().time())
        try:
            await asyncio.sleep(1)
        finally:
            self.running.subtract(("all", str(task.inputs)))


def request_of(count: int, project: str = "default", **fields: Any) -> dict[str, Any]:
    rules = {"sequence": {"n": {"start": 1, "end": count}}}
    members = {"type": "custom", "transform_rules": rules}
    task = {"name": "t", "agent": "a", "inputs": project, "expansion_config": members, **fields}
    return {"project": project, "task_groups": [{"name": "g", "tasks": [task]}]}


def configured(**document: Mapping[str, Any]) -> ConfiguredLimits:
    return ConfiguredLimits.model_validate(document)


@pytest.fixture
def gauge() -> Gauge:
    return Gauge()


def test_the_rate_of_an_agent_holds_for_all_projects(anabranch_system: Start, gauge: Gauge) -> None:
    rate = {"limit": 2, "per": "1s", "burst": 2}
    s = anabranch_system(
        agents={"a": gauge.call}, concurrency=50, limits=configured(agents={"a": {"rate_limit": rate}})
    )
    handles = [s.submit(request_of(5, project)) for project in ("shop", "lab")]

    assert {handle.result(60).status for handle in handles} == {"completed"}
    assert len(gauge.began) == 10
    for index, at in enumerate(gauge.began):
        within = [each for each in gauge.began[index:] if each < at + 2 - 0.1]
        assert len(within) <= 2 + 2 * 2, gauge.began
    assert gauge.began[-1] - gauge.began[0] >= 3.9


def test_the_members_of_a_project_share_its_places(anabranch_system: Start, gauge: Gauge) -> None:
    limits = configured(
        projects={"shop": {"concurrency": {"limit": 3}}}, agents={"a": {"concurrency": {"limit": 4}}}
    )
    s = anabranch_system(agents={"a": gauge.call}, concurrency=50, limits=limits)
    own = {"concurrency": {"key": "{session_id}", "limit": 2}}
    handles = [s.submit(request_of(6, project, **fields)) for project in ("shop", "lab") for fields in (own, {})]

    assert {handle.result(120).status for handle in handles} == {"completed"}
    assert len(gauge.began) == 24
    assert gauge.most == {"shop": 3, "lab": 4, "all": 4}
    s.advance(5)
    agency: Any = next(service for service in s.embedded.services if service.name == "agency")
    assert not [limit for each in agency._owner._owned.values() for limit in each.state.limits.values()]


def test_agents_with_the_same_key_share_a_rate_and_an_agent_may_hold_it(
    anabranch_system: Start, gauge: Gauge
) -> None:
    async def told(task: Task) -> None:
        if task.attempt == 1:
            raise anabranch.RetryLater(5, scope="key")

    rate = {"rate_limit": {"key": "provider", "limit": 100}}
    limits = configured(agents={"a": rate, "b": rate}, projects={"default": {"rate_limit": {"limit": 100}}})
    s = anabranch_system(agents={"a": gauge.call, "b": told}, limits=limits)
    held = s.submit(request_of(1, agent="b"))
    s.advance(1)
    began = s.embedded.client.links.clock.now()
    later = s.submit(request_of(1))
    s.advance(3)
    assert not gauge.began
    assert {handle.result(60).status for handle in (held, later)} == {"completed"}
    assert s.embedded.client.links.clock.now() - began >= 4


def test_an_agent_holds_its_key_before_its_breaker(anabranch_system: Start, gauge: Gauge) -> None:
    async def told(task: Task) -> None:
        if task.inputs == "default" and task.attempt == 1:
            raise anabranch.RetryLater(5, scope="key")

    limits = configured(agents={"b": {"breaker": {"failures": 100}}})
    s = anabranch_system(agents={"a": gauge.call, "b": told}, limits=limits)
    key = {"concurrency": {"key": "k", "limit": 9}}
    held = s.submit(request_of(1, agent="b", **key))
    s.advance(1)
    waiting = s.submit(request_of(1, **key))
    assert s.run(request_of(1, "lab", agent="b"), timeout=2).status == "completed", "the breaker is not held"
    s.advance(1)
    assert not gauge.began
    assert {handle.result(60).status for handle in (held, waiting)} == {"completed"}


def test_a_configured_breaker_is_in_place_of_a_declared_one(anabranch_system: Start) -> None:
    calls: list[int | None] = []

    @anabranch.agent("down", breaker={"failures": 100})
    async def down(task: Task) -> None:
        calls.append(task.index)
        raise ValueError("down")

    breaker = {"failures": 2, "cooldown": "1h", "on_open": "fail"}
    s = anabranch_system(agents=[down], concurrency=1, limits=configured(agents={"down": {"breaker": breaker}}))

    result = s.run(request_of(20, agent="down"), timeout=60)

    assert result.status == "failed"
    assert len(calls) < 10
    assert "BreakerOpen" in {each["error_type"] for each in result.failures}


def test_a_task_without_a_configured_limit_asks_nobody(anabranch_system: Start, gauge: Gauge) -> None:
    limits = configured(
        projects={"lab": {"concurrency": {"limit": 1}}}, agents={"b": {"concurrency": {"limit": 1}}}
    )
    s = anabranch_system(agents={"a": gauge.call}, concurrency=50, limits=limits)

    assert s.run(request_of(5)).status == "completed"
    assert gauge.most["all"] == 5


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_run_keeps_the_limits_with_which_it_started(anabranch_system: Start, gauge: Gauge, killed: bool) -> None:
    agents = {"a": gauge.call}
    limits = configured(agents={"a": {"concurrency": {"limit": 1}}})
    s = anabranch_system(agents=agents, concurrency=50, limits=limits)
    run = s.submit(request_of(4))
    s.advance(1.5)
    parts = Installation(s, agents)  # whose successors have no limits in their settings
    parts.end("agency", "taskgroup", killed=killed)
    s.advance(10)
    parts.start("agency", "taskgroup")

    assert run.result(300).status == "completed"
    assert gauge.most["all"] == 1
    assert s.run(request_of(4)).status == "completed"
    assert gauge.most["all"] == 4
