"""Events over HTTP: pages, resumed Server-Sent Events, WebSockets, live changes, and member projections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from gateways import HELLO, Running, gateway, one_task, sse
from waiting import eventually_true
from websockets.asyncio.client import connect

from anabranch import Registry, Task, agent
from anabranch.core.names import run_id_for

SSE = {"accept": "text/event-stream"}
FAN_OUT = {"type": "custom", "transform_rules": {"sequence": {"n": {"start": 0, "end": 19, "step": 1}}}}


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with gateway() as running:
        yield running


async def streamed(running: Running, path: str, **headers: str) -> list[tuple[str | None, str, Any]]:
    """All events of a stream that ends on its own."""
    async with running.http.stream("GET", path, headers={**SSE, **headers}) as response:
        assert response.status_code == 200
        async with aclosing(sse(response)) as events:
            return [each async for each in events]


async def test_each_page_of_events_continues_after_the_previous_one(running: Running) -> None:
    await running.submit({**HELLO, "request_id": "r1"})
    whole = (await running.get("/v1/runs/r1/events"))["events"]

    pages: list[Any] = []
    after = None
    while len(pages) < len(whole):
        page = await running.get("/v1/runs/r1/events", limit=3, **({"after": after} if after else {}))
        pages += page["events"]
        after = page["next_after"]

    assert pages == whole
    assert [event["seq"] for event in whole] == list(range(1, len(whole) + 1))
    assert (await running.get("/v1/runs/r1/events", after=after)) == {"events": [], "next_after": after}


async def test_the_cursor_advances_past_events_that_a_filter_skips(running: Running) -> None:
    await running.submit({**HELLO, "request_id": "r1"})

    page = await running.get("/v1/runs/r1/events", types="run.*,task.joined")
    rest = await running.get("/v1/runs/r1/events", after=page["next_after"])

    assert [event["type"] for event in page["events"]] == ["run.accepted", "task.joined", "run.completed"]
    assert rest["events"] == []


async def test_a_stream_ends_with_the_run_and_resumes_after_any_event(running: Running) -> None:
    await running.submit({**HELLO, "request_id": "r1"})
    whole = await streamed(running, "/v1/runs/r1/events")

    for number in range(len(whole)):
        event_id = whole[number][0] or ""
        assert await streamed(running, "/v1/runs/r1/events", **{"last-event-id": event_id}) == whole[number + 1 :]
    assert whole[-1][1] == "run.completed"


async def test_a_listener_receives_new_events_while_the_run_continues(running: Running) -> None:
    request = one_task(external_dependencies=["go"], inputs="{go}")
    await running.submit({**request, "request_id": "r1", "session_id": "s"}, wait=None)
    listening = asyncio.create_task(streamed(running, "/v1/runs/r1/events"))
    await eventually_true(lambda: _open(running, "r1"))

    await running.http.post("/v1/runs/r1/cancel")

    events = await listening
    assert [event["seq"] for _, _, event in events] == list(range(1, len(events) + 1))
    assert events[-1][1] == "run.cancelled"


async def test_a_websocket_sends_the_same_events(running: Running) -> None:
    await running.submit({**HELLO, "request_id": "r1"})
    whole = await streamed(running, "/v1/runs/r1/events")
    url = running.service.url.replace("http", "ws")

    async with connect(f"{url}v1/runs/r1/events/ws?after={whole[1][0]}") as socket:
        messages = [json.loads(message) async for message in socket]

    assert [(each["id"], each["event"]) for each in messages] == [(each[0], each[2]) for each in whole[2:]]


async def test_a_websocket_of_an_unknown_run_is_refused(running: Running) -> None:
    with pytest.raises(Exception, match="HTTP 403"):
        await connect(f"{running.service.url.replace('http', 'ws')}v1/runs/nobody/events/ws").__aenter__()


async def test_changes_of_all_runs_are_streamed_live(running: Running) -> None:
    url = running.service.url.replace("http", "ws")
    async with (
        connect(f"{url}v1/events/ws") as socket,
        running.http.stream("GET", "/v1/events") as response,
        aclosing(sse(response)) as events,
    ):
        await running.submit({**one_task(), "request_id": "r1", "name": "mine"})
        received = [event async for _, _, event in _until_completed(events)]
        over_socket = json.loads(await socket.recv())["event"]

    assert received[-1] == {
        "run_id": run_id_for("r1"),
        "status": "completed",
        "project": "default",
        "name": "mine",
    }
    assert (over_socket["type"], over_socket["run_id"]) == ("run.changed", run_id_for("r1"))


async def test_members_are_returned_in_pages_and_as_a_heat_map(running: Running) -> None:
    request = one_task(inputs={"n": "{n}"}, expansion_config=FAN_OUT | {"output_format": "index"})
    await running.submit({**request, "request_id": "r1"})
    where = {"group": "g", "task": "t"}

    page = await running.get("/v1/runs/r1/members", limit=2, status="completed", **{**where, "from": 18})
    none = await running.get("/v1/runs/r1/members", status="failed", **where)
    heat = await running.get("/v1/runs/r1/heatmap", cells=4, **where)
    member = await running.get("/v1/runs/r1/members/g/t/7")

    assert [(each["index"], each["name"]) for each in page["members"]] == [(18, "t_19"), (19, "t_20")]
    assert (page["total"], page["next_from"], none["total"]) == (20, None, 0)
    assert heat == {"total": 20, "per_cell": 5, "cells": [{"done": 5, "failed": 0, "running": 0}] * 4}
    assert (member["inputs"], member["result"]) == ({"n": 7}, {"k": {"n": 7}})
    assert (member["result_known"], member["variables"]) == ("exact", {"n": 7})
    assert [each["attempt"] for each in member["attempts_log"]] == [1]


async def test_a_failed_member_shows_the_outcome_of_each_attempt() -> None:
    registry = Registry.builtin()

    @agent("flaky")
    async def flaky(task: Task) -> str:
        if task.attempt < 3:
            raise ValueError(f"no {task.attempt}")
        return "well"

    registry.add(flaky)
    retry = {"strategy": "fixed", "delay": "1ms", "max_attempts": 3}
    async with gateway(registry=registry) as running:
        await running.submit({**one_task("flaky", retry=retry), "request_id": "r1"})

        member = await running.get("/v1/runs/r1/members/g/t/-")

    errors = [each["error"] for each in member["attempts_log"]]
    assert [each and (each["type"], each["message"]) for each in errors] == [
        ("ValueError", "no 1"),
        ("ValueError", "no 2"),
        None,
    ]
    assert all("test_events.py" in each["traceback"] for each in errors[:2])
    assert all("in flaky" in each["traceback"] for each in errors[:2])
    assert (member["status"], member["result"]) == ("completed", {"k": "well"})


async def test_a_failed_member_and_its_dead_letter_have_the_traceback_and_lists_omit_it() -> None:
    registry = Registry.builtin()

    @agent("broken")
    def broken(task: Task) -> str:
        raise ValueError("no")

    registry.add(broken)
    async with gateway(registry=registry) as running:
        await running.submit({**one_task("broken"), "request_id": "r1"})

        member = await running.get("/v1/runs/r1/members/g/t/-")
        members = (await running.get("/v1/runs/r1/members", group="g", task="t"))["members"]
        dead_letters = (await running.get("/v1/dead-letters"))["letters"]
        dead_letter = await running.get(f"/v1/dead-letters/{dead_letters[0]['id']}")
        view = await running.get("/v1/runs/r1")

    shown = member["error"]["traceback"]
    assert "test_events.py" in shown
    assert ", in broken\n" in shown
    assert (dead_letter["member"]["traceback"], view["failures"][0]["traceback"]) == (shown, shown)
    assert members[0]["error"] == {"type": "ValueError", "message": "no"}
    assert "traceback" not in dead_letters[0]["member"]


async def test_an_unknown_member_is_not_found(running: Running) -> None:
    await running.submit({**HELLO, "request_id": "r1"})

    for path in ("g/greet/2", "g/greet/-", "g/letter/0", "g/nobody/0", "nobody/greet/0"):
        assert (await running.http.get(f"/v1/runs/r1/members/{path}")).status_code == 404
    assert (await running.http.get("/v1/runs/r1/members/g/greet/x")).status_code == 422


async def test_dead_letters_are_listed_grouped_and_decided_on(running: Running) -> None:
    await running.submit({**one_task("fail", inputs={"times": 9}), "request_id": "r1"})

    [dead_letter] = (await running.get("/v1/dead-letters"))["letters"]
    groups = await running.get("/v1/dead-letters/groups", run="r1")
    whole = await running.get(f"/v1/dead-letters/{dead_letter['id']}")
    redriven = await running.http.post("/v1/dead-letters/redrive", json={"ids": [dead_letter["id"]]})
    dismissed = await running.http.post("/v1/dead-letters/dismiss", json={"run": "r1"})
    unclear = await running.http.post("/v1/dead-letters/dismiss", json={})

    assert (dead_letter["code"], dead_letter["run_id"]) == ("member_failed", run_id_for("r1"))
    assert (groups["letters"], groups["groups"][0]["count"]) == (1, 1)
    assert whole["member"]["task"] == "t"
    assert groups["groups"][0]["redrivable"] == 0
    assert "has ended" in whole["redrive_refused"]
    assert whole["redrive_refused"] == dead_letter["redrive_refused"]
    assert "has ended" in redriven.json()["refused"][0]["reason"]
    assert [each["id"] for each in dismissed.json()["dismissed"]] == [dead_letter["id"]]
    assert unclear.status_code == 422
    assert (await running.get("/v1/dead-letters"))["letters"] == []
    assert (await running.get("/v1/dead-letters", state="dismissed"))["letters"][0]["id"] == dead_letter["id"]


async def _open(running: Running, run: str) -> bool:
    return bool((await running.get(f"/v1/runs/{run}"))["groups"])


async def _until_completed(events: Any) -> AsyncIterator[Any]:
    async for each in events:
        yield each
        if each[2]["status"] == "completed":
            return
