"""Limits that runs share, in a whole system with virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from owner_changes import Installation

import anabranch
from anabranch import Task
from anabranch.runtime.reading.views import load_view
from anabranch.testing import System

Start = Callable[..., System]


class Gauge:
    """An agent that takes a while, and measures how many of it run at once, and when each began."""

    def __init__(self, clock: Callable[[], float] | None = None, seconds: float = 1.0) -> None:
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.began: list[float] = []
        self.seconds = seconds

    async def __call__(self, task: Task) -> Any:
        key = str((task.inputs or {}).get("key", ""))
        self.running[key] += 1
        self.most[key] = max(self.most[key], self.running[key])
        self.began.append(asyncio.get_running_loop().time())
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running[key] -= 1
        return task.index

    @property
    def agent(self) -> Callable[[Task], Any]:
        async def call(task: Task) -> Any:
            return await self(task)

        return call


def request_of(count: int = 1, **fields: Any) -> dict[str, Any]:
    task = {"name": "t", "agent": "a", **fields}
    if count > 1:
        rules = {"sequence": {"n": {"start": 1, "end": count}}}
        task["expansion_config"] = {"type": "custom", "transform_rules": rules}
    return {"task_groups": [{"name": "g", "tasks": [task]}]}


def limits_of(s: System) -> int:
    """What owners of limits keep."""
    agency = next(service for service in s.embedded.services if service.name == "agency")
    owned: Any = agency
    return sum(len(each.state.limits) for each in owned._owner._owned.values())


def test_members_of_several_runs_share_the_places_of_a_key(anabranch_system: Start) -> None:
    gauge = Gauge()
    s = anabranch_system(agents={"a": gauge.agent}, concurrency=20)
    places = {"key": "db", "limit": 3}
    handles = [s.submit(request_of(8, concurrency=places)) for _ in range(3)]

    results = [handle.result(120) for handle in handles]

    assert {result.status for result in results} == {"completed"}
    assert gauge.most[""] == 3
    assert len(gauge.began) == 24
    s.advance(5)
    assert limits_of(s) == 0


def test_a_higher_level_gets_the_next_place(anabranch_system: Start) -> None:
    order: list[str] = []

    async def call(task: Task) -> None:
        order.append(task.inputs)
        await asyncio.sleep(2)

    s = anabranch_system(agents={"a": call})
    handles = []
    for name, level in (("first", "normal"), ("low", "low"), ("normal", "normal"), ("urgent", "urgent")):
        request = request_of(inputs=name, concurrency={"key": "k"}) | {"priority": level}
        handles.append(s.submit(request))
        s.advance(0.2)

    assert {handle.result(60).status for handle in handles} == {"completed"}
    assert order == ["first", "urgent", "normal", "low"]


def test_a_run_with_a_near_deadline_gets_the_next_place(anabranch_system: Start) -> None:
    order: list[str] = []

    async def call(task: Task) -> None:
        order.append(task.inputs)
        await asyncio.sleep(2)

    s = anabranch_system(agents={"a": call})
    handles = []
    for name, seconds in (("first", None), ("later", None), ("tomorrow", 80_000), ("soon", 600)):
        deadline = {} if seconds is None else {"deadline": s.embedded.client.links.clock.now() + seconds}
        handles.append(s.submit(request_of(inputs=name, concurrency={"key": "k"}) | deadline))
        s.advance(0.2)

    assert {handle.result(60).status for handle in handles} == {"completed"}
    assert order == ["first", "soon", "tomorrow", "later"]


def test_each_key_has_places_of_its_own(anabranch_system: Start) -> None:
    gauge = Gauge()
    s = anabranch_system(agents={"a": gauge.agent}, concurrency=20)
    users = {"type": "array", "array_mapping": {"user": ["ann", "ann", "ben", "ben", "ben", "cy"]}}
    task = {"expansion_config": users, "inputs": {"key": "{user}"}, "concurrency": {"key": "user-{user}"}}

    result = s.run(request_of(**task))

    assert result.status == "completed"
    assert gauge.most == {"ann": 1, "ben": 1, "cy": 1}
    assert len(gauge.began) == 6


def test_a_key_may_name_the_context(anabranch_system: Start) -> None:
    gauge = Gauge()
    s = anabranch_system(agents={"a": gauge.agent}, concurrency=20)
    request = request_of(4, concurrency={"key": "{tenant}", "limit": 1}, inputs={"key": "{tenant}"})

    handles = [s.submit(request | {"context": {"tenant": tenant}}) for tenant in ("x", "x", "y")]

    assert {handle.result(60).status for handle in handles} == {"completed"}
    assert gauge.most == {"x": 1, "y": 1}


def test_a_place_is_free_in_the_delay_before_a_retry(anabranch_system: Start) -> None:
    order: list[str] = []

    async def call(task: Task) -> str:
        order.append(f"{task.inputs}{task.attempt}")
        if task.inputs == "a" and task.attempt == 1:
            raise anabranch.RetryLater(0.5)
        await asyncio.sleep(0.1)
        return "done"

    s = anabranch_system(agents={"a": call})
    first = s.submit(request_of(inputs="a", concurrency={"key": "k"}))
    s.advance(0.2)
    second = s.submit(request_of(inputs="b", concurrency={"key": "k"}))

    assert {first.result(60).status, second.result(60).status} == {"completed"}
    assert order == ["a1", "b1", "a2"]


@pytest.mark.parametrize("end", ["cancel", "fail", "timeout"])
def test_a_place_is_given_back_however_its_task_ends(anabranch_system: Start, end: str) -> None:
    async def call(task: Task) -> str:
        if task.inputs == "hold":
            await asyncio.sleep(5)
            if end == "fail":
                raise anabranch.GiveUp("broken")
            await asyncio.sleep(1_000)
        return "done"

    s = anabranch_system(agents={"a": call})
    held = s.submit(request_of(inputs="hold", concurrency={"key": "k"}) | {"timeout": 30})
    s.advance(2)
    waiting = s.submit(request_of(concurrency={"key": "k"}))
    s.advance(2)
    assert waiting.status().status == "running" if callable(getattr(waiting, "status", None)) else True
    if end == "cancel":
        held.cancel()

    assert waiting.result(60).status == "completed"
    assert held.result(60).status == {"cancel": "cancelled", "fail": "failed", "timeout": "timed_out"}[end]
    s.advance(5)
    assert limits_of(s) == 0


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_places_are_kept_across_owners(anabranch_system: Start, killed: bool) -> None:
    gauge = Gauge(seconds=4.0)
    agents = {"a": gauge.agent}
    s = anabranch_system(agents=agents, concurrency=20)
    handles = [s.submit(request_of(6, concurrency={"key": "db", "limit": 2})) for _ in range(2)]
    s.advance(3)
    parts = Installation(s, agents)
    parts.end("agency", killed=killed)
    s.advance(20)
    parts.start("agency")

    assert {handle.result(200).status for handle in handles} == {"completed"}
    assert gauge.most[""] == 2
    s.advance(100)


def test_a_rate_delays_members_and_is_no_attempt(anabranch_system: Start) -> None:
    gauge = Gauge(seconds=0.0)
    attempts: Counter[int] = Counter()

    async def call(task: Task) -> Any:
        attempts[task.attempt] += 1
        return await gauge(task)

    s = anabranch_system(agents={"a": call})
    rate = {"key": "llm", "limit": 5, "per": "1s", "burst": 2}
    handles = [s.submit(request_of(10, rate_limit=rate)) for _ in range(2)]

    assert {handle.result(60).status for handle in handles} == {"completed"}
    assert attempts == {1: 20}
    began = sorted(gauge.began)
    assert 3.4 <= began[-1] - began[0] <= 5.0
    assert all(later - earlier >= 0.9 for earlier, later in pairwise(began[2::5]))


def test_a_paused_run_holds_no_place(anabranch_system: Start) -> None:
    gauge = Gauge()
    s = anabranch_system(agents={"a": gauge.agent})
    paused = s.submit(request_of(5, concurrency={"key": "k"}))
    s.advance(0.5)
    paused.pause()
    s.advance(3)
    other = s.run(request_of(concurrency={"key": "k"}), timeout=30)
    paused.resume()

    assert other.status == "completed"
    assert paused.result(60).status == "completed"
    assert gauge.most[""] == 1


@pytest.mark.parametrize(
    ("on_full", "first", "second"),
    [("reject", "completed", "failed"), ("cancel_running", "cancelled", "completed")],
)
def test_what_a_full_key_does(anabranch_system: Start, on_full: str, first: str, second: str) -> None:
    gauge = Gauge(seconds=10.0)
    s = anabranch_system(agents={"a": gauge.agent})
    holding = s.submit(request_of(concurrency={"key": "k"}))
    s.advance(2)
    late = s.submit(request_of(concurrency={"key": "k", "on_full": on_full}))

    assert (holding.result(60).status, late.result(60).status) == (first, second)
    if on_full == "reject":
        [failure] = late.result(60).failures
        assert failure["error_type"] == "ConcurrencyLimit"
        assert "1 of 1 held by" in failure["message"]


def test_finally_sees_that_another_run_took_the_key(anabranch_system: Start) -> None:
    gauge = Gauge(seconds=10.0)
    s = anabranch_system(agents={"a": gauge.agent})
    note = {"name": "note", "agent": "echo", "inputs": "{run.status}", "result_keys": ["note"]}
    holding = s.submit(request_of(concurrency={"key": "k"}) | {"finally": [note]})
    s.advance(2)
    s.submit(request_of(concurrency={"key": "k", "on_full": "cancel_running"}))

    result = holding.result(60)
    assert (result.status, result.results["note"]) == ("cancelled", "cancelled")


def test_a_wait_that_is_replaced_is_cancelled(anabranch_system: Start) -> None:
    gauge = Gauge(seconds=10.0)
    s = anabranch_system(agents={"a": gauge.agent})
    handles = []
    for _ in range(3):
        handles.append(s.submit(request_of(concurrency={"key": "k", "on_full": "replace_queued"})))
        s.advance(1)

    assert [handle.result(60).status for handle in handles] == ["completed", "cancelled", "completed"]


def test_an_agent_may_have_all_members_of_its_key_wait(anabranch_system: Start) -> None:
    began: list[float] = []

    async def call(task: Task) -> str:
        began.append(asyncio.get_running_loop().time())
        if len(began) == 1:
            raise anabranch.RetryLater(30, "too many requests", scope="key")
        return "done"

    s = anabranch_system(agents={"a": call})
    rate = {"key": "provider", "limit": 5, "per": "1s", "burst": 1}
    handles = [s.submit(request_of(4, rate_limit=rate)) for _ in range(2)]

    assert {handle.result(120).status for handle in handles} == {"completed"}
    waited = sorted(at - began[0] for at in began)
    assert len([each for each in waited if each < 29.0]) <= 2, "one more may have been under way"
    assert waited[-1] < 40.0


# --- runs ------------------------------------------------------------------------------------------


def run_of(key: str = "k", **places: Any) -> dict[str, Any]:
    return {**request_of(), "concurrency": {"key": key, **places}}


def test_a_run_waits_for_a_place_and_holds_it_to_its_end(anabranch_system: Start) -> None:
    gauge = Gauge(seconds=5.0)
    s = anabranch_system(agents={"a": gauge.agent}, concurrency=20)
    handles = []
    for _ in range(4):
        handles.append(s.submit(run_of(limit=2)))
        s.advance(0.5)
    waiting = s.wait(load_view(s.embedded.store, s.embedded.names, handles[3].run_id))

    assert waiting is not None
    assert waiting.status == "queued"
    assert waiting.queued is not None
    assert (waiting.queued["key"], waiting.queued["position"]) == ("k", 2)
    assert handles[0].run_id in waiting.queued["because"]
    assert {handle.result(60).status for handle in handles} == {"completed"}
    assert gauge.most[""] == 2
    s.advance(5)
    assert limits_of(s) == 0


def test_a_queued_run_may_be_cancelled_and_its_key_names_the_context(anabranch_system: Start) -> None:
    gauge = Gauge(seconds=5.0)
    s = anabranch_system(agents={"a": gauge.agent})
    held = s.submit(run_of("{tenant}") | {"context": {"tenant": "x"}})
    s.advance(1)
    queued = s.submit(run_of("{tenant}") | {"context": {"tenant": "x"}})
    other = s.submit(run_of("{tenant}") | {"context": {"tenant": "y"}})
    s.advance(1)
    queued.cancel()

    assert queued.result(30).status == "cancelled"
    assert [held.result(60).status, other.result(60).status] == ["completed", "completed"]
    assert len(gauge.began) == 2
    s.advance(5)
    assert limits_of(s) == 0


@pytest.mark.parametrize(
    ("on_full", "statuses"),
    [
        ("queue", ["completed", "completed", "completed"]),
        ("reject", ["completed", "failed", "failed"]),
        ("cancel_running", ["cancelled", "cancelled", "completed"]),
        ("replace_queued", ["completed", "cancelled", "completed"]),
    ],
)
def test_what_a_full_key_does_with_runs(anabranch_system: Start, on_full: str, statuses: list[str]) -> None:
    gauge = Gauge(seconds=10.0)
    s = anabranch_system(agents={"a": gauge.agent})
    handles = []
    for _ in range(3):
        handles.append(s.submit(run_of(on_full=on_full)))
        s.advance(2)

    assert [handle.result(60).status for handle in handles] == statuses
    assert gauge.most[""] == 1


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_queued_runs_survive_their_owners(anabranch_system: Start, killed: bool) -> None:
    gauge = Gauge(seconds=30.0)
    agents = {"a": gauge.agent}
    s = anabranch_system(agents=agents)
    handles = [s.submit(run_of()) for _ in range(3)]
    s.advance(5)
    parts = Installation(s, agents)
    parts.end("agency", killed=killed)
    s.advance(20)
    parts.start("agency")

    assert {handle.result(300).status for handle in handles} == {"completed"}
    assert gauge.most[""] == 1


# --- breakers --------------------------------------------------------------------------------------


class Flaky:
    """An agent with a breaker that fails until it is mended."""

    def __init__(self, **breaker: Any) -> None:
        self.is_broken, self.calls = True, 0

        @anabranch.agent("a", breaker={"failures": 3, "cooldown": "30s", **breaker})
        async def call(task: Task) -> str:
            self.calls += 1
            await asyncio.sleep(0.1)
            if self.is_broken:
                raise ValueError("broken")
            return "done"

        self.agent = call


def test_a_breaker_opens_has_members_wait_and_closes(anabranch_system: Start) -> None:
    flaky = Flaky()
    s = anabranch_system(agents=[flaky.agent], concurrency=2)
    handle = s.submit(request_of(40, tolerated_failures=40))
    s.advance(20)
    calls = flaky.calls
    flaky.is_broken = False

    result = handle.result(300)

    assert 3 <= calls <= 8, "no further member was called while it was open"
    assert result.status == "completed"
    assert flaky.calls == 40
    assert 3 <= len(result.failures) <= 8


def test_the_outcomes_of_tasks_with_one_member_open_and_close_a_breaker(anabranch_system: Start) -> None:
    flaky = Flaky(on_open="fail")
    s = anabranch_system(agents=[flaky.agent])
    failed = [s.run(request_of(), timeout=60) for _ in range(5)]
    types = [each.failures[0]["error_type"] for each in failed]
    assert types == ["ValueError"] * 3 + ["BreakerOpen"] * 2
    s.advance(31)
    flaky.is_broken = False

    assert s.run(request_of(), timeout=60).status == "completed"
    flaky.is_broken = True
    again = [s.run(request_of(), timeout=60).failures[0]["error_type"] for _ in range(4)]
    assert again == ["ValueError"] * 3 + ["BreakerOpen"], "it was closed by the member that passed"


def test_a_breaker_that_fails_members_says_so(anabranch_system: Start) -> None:
    flaky = Flaky(on_open="fail")
    s = anabranch_system(agents=[flaky.agent], concurrency=2)

    result = s.run(request_of(20), timeout=60)

    assert result.status == "failed"
    assert "BreakerOpen" in {failure["error_type"] for failure in result.failures}
    assert flaky.calls <= 8


def test_a_breaker_is_opened_and_closed_by_hand(anabranch_system: Start) -> None:
    flaky = Flaky()
    flaky.is_broken = False
    s = anabranch_system(agents=[flaky.agent])
    s.wait(s.embedded.client.set_breaker("a", "open"))
    s.advance(2)
    handle = s.submit(request_of(3))
    s.advance(100)
    assert flaky.calls == 0

    s.wait(s.embedded.client.set_breaker("a", "close"))

    assert handle.result(60).status == "completed"
    assert flaky.calls == 3
