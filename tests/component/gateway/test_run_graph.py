"""What `GET /v1/runs/RUN/graph` says of the control flow of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from flow_requests import release
from gateways import Running, gateway
from waiting import eventually_true


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with gateway() as running:
        yield running


async def waiting_release(running: Running) -> None:
    """The request `release` as run "q", once it waits for the approval and its sub-runs have ended."""
    await running.submit({**release(), "request_id": "q"}, wait=None)

    async def is_waiting() -> bool:
        view = await running.get("/v1/runs/q")
        tasks = view["groups"].get("release", {}).get("tasks", {})
        ended = [tasks.get(name, {}).get("ended_at") for name in ("greet", "cool down")]
        return bool(tasks.get("sign-off", {}).get("waits")) and all(ended)

    await eventually_true(is_waiting)


async def test_the_graph_says_what_controls_each_task(running: Running) -> None:
    await waiting_release(running)

    graph = await running.get("/v1/runs/q/graph")
    view = await running.get("/v1/runs/q")

    nodes: dict[str, Any] = {node["id"]: node for node in graph["nodes"]}
    switch, quick, careful = nodes["route/(switch)"], nodes["route/quick"], nodes["route/careful"]
    assert (switch["kind"], switch["chosen"], quick["status"]) == ("switch", 0, "completed")
    assert quick["branch"] == {
        "switch": "route/(switch)",
        "case": 0,
        "text": 'score >= 0.8 && tests == "passed"',
    }
    assert (careful["status"], careful["reason"]) == ("skipped", "branch")
    assert careful["because"] == "route/(switch) chose case 0"
    assert nodes["route/reject"]["branch"]["text"] == "else"

    loop, draft = nodes["writing/(loop)"], nodes["writing/draft"]
    assert (loop["kind"], loop["ended_by"], loop["bound"]) == (
        "loop",
        "condition",
        'until draft == "draft 29", at most 100 times',
    )
    assert (loop["loop"]["ended"], len(loop["loop"]["last"])) == (30, 30)
    assert (draft["in_loop"], draft["iteration"]) == ("writing/(loop)", [29])

    assert nodes["release/cool down"]["wait"] == {"kind": "for", "of": 1.0, "timeout": None}
    assert nodes["release/cool down"]["ended_by"] == "time"
    [wait] = nodes["release/sign-off"]["waits"]
    assert (wait["reason"], wait["approval"]["subject"]) == ("approval", "Release draft 29?")
    assert [child["status"] for child in view["children"]] == ["completed"] * 3

    clean = nodes["finally/clean"]
    assert (clean["phase"], clean["status"], clean["level"]) == ("finally", "waiting", 5)
    assert {"name": "finally", "status": "waiting"} in graph["groups"]
    ends = [graph["edges"][number] for number in graph["optional"]]
    order = [node["id"] for node in graph["nodes"]]
    assert [(order[first], order[second]) for first, second in ends] == [("release/cool down", "release/publish")]


async def test_compensations_are_nodes_once_they_have_begun(running: Running) -> None:
    await waiting_release(running)

    await running.http.post("/v1/runs/q/cancel")
    await running.get("/v1/runs/q/result", wait="20s")

    async def has_ended() -> bool:
        return bool((await running.get("/v1/runs/q"))["ended_at"])

    await eventually_true(has_ended)
    graph = await running.get("/v1/runs/q/graph")
    last = graph["nodes"][-1]
    assert (last["id"], last["phase"], last["agent"], last["status"]) == (
        "compensate/tests",
        "compensate",
        "echo",
        "completed",
    )
    clean = next(node for node in graph["nodes"] if node["id"] == "finally/clean")
    assert clean["status"] == "completed"
    assert [group["name"] for group in graph["groups"]][-2:] == ["compensate", "finally"]
