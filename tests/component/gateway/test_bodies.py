"""Limits on bodies in the gateway (threads, queues, memory), and other requests in the meantime."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from gateways import HELLO, Running, gateway, one_task
from waiting import eventually

from anabranch.sdk.agents import Registry
from anabranch_gateway.api.serializers import MAX_PLANNED
from anabranch_gateway.http.parsing import FREE_BYTES, BodyBudget, BodyReservation, ParsingLane, ParsingPool
from anabranch_gateway.http.problems import Refusal


class HeldAgents(frozenset[str]):
    """Names of agents whose lookup blocks until `let_go`, or until a timeout that fails the test."""

    let_go: threading.Event
    ended: bool

    def __new__(cls) -> HeldAgents:
        made = super().__new__(cls, Registry.builtin().names)
        made.let_go, made.ended = threading.Event(), False
        return made

    def __contains__(self, name: object) -> bool:
        self.let_go.wait(10)
        self.ended = True
        return super().__contains__(name)


def parsing_of(running: Running) -> ParsingPool:
    parsing: ParsingPool = running.service.app.state.context.parsing
    return parsing


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/plan"])
async def test_a_gateway_is_responsive_while_bodies_are_validated(path: str) -> None:
    agents: Any = HeldAgents()
    async with gateway(agents=agents) as running:
        lane = parsing_of(running).small
        posts = [asyncio.create_task(running.http.post(path, json=HELLO)) for _ in range(8)]
        await eventually(lambda: lane.waiting == 4)
        answers = [await running.http.get(each) for each in ("/livez", "/readyz", "/v1/runs")]
        was_held = not agents.ended
        agents.let_go.set()
        done = [(await post).status_code for post in posts]

    assert was_held
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert set(done) == {202 if path == "/v1/runs" else 200}


@contextlib.contextmanager
def held(lane: ParsingLane, count: int) -> Iterator[list[asyncio.Task[Any]]]:
    """Hold this many bodies in a lane until the end of the block."""
    let_go = threading.Event()
    try:
        yield [asyncio.create_task(lane.run(let_go.wait, 10)) for _ in range(count)]
    finally:
        let_go.set()


async def test_a_body_is_refused_as_busy_if_the_queue_is_full_or_the_wait_too_long() -> None:
    lane = ParsingLane("test", 1, max_waiting=2, wait_seconds=0.05)

    with held(lane, 3) as bodies:
        await eventually(lambda: lane.waiting == 2)
        with pytest.raises(Refusal) as full:
            await lane.run(int)
        late = await asyncio.gather(*bodies[1:], return_exceptions=True)

    assert (full.value.status, full.value.code, full.value.headers) == (503, "busy", {"retry-after": "2"})
    assert [getattr(each, "code", each) for each in late] == ["busy", "busy"]
    assert await bodies[0] is True
    assert await lane.run(int) == 0


async def test_a_caller_that_leaves_does_not_give_away_the_thread_that_it_had() -> None:
    lane = ParsingLane("test", 1, wait_seconds=0.5)

    with held(lane, 1) as [body]:
        await asyncio.sleep(0)
        body.cancel()
        with pytest.raises(Refusal, match="busy"):
            await lane.run(int)
    await eventually(body.done)
    assert await lane.run(int) == 0


async def test_all_bodies_share_one_memory_budget() -> None:
    budget = BodyBudget(10_000)
    first, second = BodyReservation(budget), BodyReservation(budget)

    first.grow(FREE_BYTES)
    first.grow(9_000)
    second.grow(FREE_BYTES)
    assert budget.reserved == 9_000
    with pytest.raises(Refusal, match="busy"):
        second.grow(1_001)


@pytest.fixture
async def running() -> Any:
    async with gateway() as started:
        yield started


async def test_an_exhausted_budget_refuses_large_bodies_and_serves_small_ones(running: Running) -> None:
    budget = parsing_of(running).budget
    budget.reserve(budget.total)
    large = one_task(inputs="x" * 50_000)

    full = await running.http.post("/v1/runs", json=large)
    small = await running.http.post("/v1/runs", json=HELLO)
    budget.reserved = 0
    taken = await running.http.post("/v1/runs", json=large)

    assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (503, "busy", "2")
    assert (small.status_code, taken.status_code) == (202, 202)


async def test_a_body_releases_its_memory_however_its_request_ends(running: Running) -> None:
    long, parsing = "x" * 100_000, parsing_of(running)
    statuses = [
        (await running.http.post(path, content=content, headers={"content-type": kind})).status_code
        for path, content, kind in (
            ("/v1/runs", json.dumps(one_task(inputs=long)), "application/json"),
            ("/v1/plan", json.dumps(one_task(inputs=long)), "application/json"),
            ("/v1/runs", "{" + long, "application/json"),
            ("/v1/runs", json.dumps({"x": long}), "application/json"),
            ("/v1/runs", "a: &a [*a] #" + long, "application/yaml"),
            ("/v1/runs", long * 30, "application/json"),
            ("/v1/subscriptions", json.dumps({"x": long}), "application/json"),
            ("/v1/dead-letters/redrive", json.dumps({"x": "x" * 60_000}), "application/json"),
        )
    ]

    assert statuses == [202, 200, 422, 422, 422, 413, 413, 422]
    assert parsing.budget.reserved == 0


async def test_bodies_that_expand_are_refused_with_their_code(running: Running) -> None:
    codes = [
        (await running.http.post("/v1/runs", content=content, headers={"content-type": kind})).json()["code"]
        for content, kind in (
            ("&a [*a, *a]", "application/yaml"),
            ("a: &a {b: 1, c: 2, d: 3, e: 4}\nc: {<<: [" + "*a, " * 20_000 + "*a]}", "application/yaml"),
            ("[" * 100_000, "application/json"),
            ("[" + "[]," * 600_000 + "1]", "application/json"),
            ("message_template: {word}", "application/yaml"),
        )
    ]

    assert codes == ["not_yaml", "not_yaml", "too_deep", "too_large", "not_yaml"]


async def test_a_command_with_a_body_that_is_no_json_is_refused(running: Running) -> None:
    for content in ("{", "[" * 60_000, '{"ids": 1, "ids": 2}'):
        answer = await running.http.post("/v1/dead-letters/redrive", content=content)

        assert answer.status_code == 422
        assert answer.json()["code"] in ("not_json", "too_deep")


async def test_a_plan_lists_the_members_that_fit(running: Running) -> None:
    config = {"type": "array", "array_mapping": {"n": list(range(1_000))}}
    for fields in ({"inputs": ["{big}"]}, {"message_template": "{big}{big}"}, {"inputs": {"a": "{big}"}}):
        request = one_task(expansion_config=config, **fields) | {"context": {"big": ["x" * 400_000]}}
        answer = await running.http.post("/v1/plan?expand=1", json=request)

        assert answer.status_code == 200
        assert len(answer.content) < MAX_PLANNED + 1_000_000
        [task] = answer.json()["tasks"]
        assert task["members"] == 1_000
        assert 5 < len(task["expanded"]) < 50
