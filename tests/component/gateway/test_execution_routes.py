"""Executions of tasks over HTTP: scheduled one by one, in batches and graphs, listed, counted and cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateways import Running, gateway
from waiting import eventually_true

from anabranch.sdk.agents import Registry

UNKNOWN = "01a22ff5-0000-7000-8000-000000000000"


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with gateway(registry=Registry(), database_url="sqlite://") as running:

        async def is_open() -> bool:
            return (await running.http.get("/v1/executions")).status_code == 200

        await eventually_true(is_open)
        yield running


async def _tasks(running: Running, *names: str) -> list[str]:
    response = await running.http.post("/v1/tasks", json={"tasks": [{"name": name} for name in names]})
    return [each["id"] for each in response.json()["tasks"]]


async def _post(running: Running, path: str, body: Any, status: int) -> dict[str, Any]:
    response = await running.http.post(path, json=body)
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_an_execution_completes_with_its_inputs(running: Running) -> None:
    (task,) = await _tasks(running, "a")
    body = {"task_id": task, "workflow_params": {"inputs": {"n": 1}}, "priority": "high"}
    made = await _post(running, "/v1/executions", body, 201)

    async def is_done() -> bool:
        found = await running.get(f"/v1/executions/{made['execution_id']}")
        return bool(found["status"] == "completed" and found["result"] == {"n": 1})

    await eventually_true(is_done)
    stats = await running.get("/v1/executions/stats")
    assert stats["status_counts"]["completed"] == stats["total_count"] == 1
    page = await running.get(f"/v1/executions?status=completed&task_id={task}")
    assert [each["execution_id"] for each in page["executions"]] == [made["execution_id"]]
    answer = await _post(running, f"/v1/executions/{made['execution_id']}/cancel", {}, 200)
    assert answer["message"] == "Execution already completed with status: completed"


async def test_graphs_and_batches(running: Running) -> None:
    a, b = await _tasks(running, "a", "b")
    made = await _post(running, "/v1/executions", {"task_graph": {b: [a], a: []}, "timeout": 60}, 201)
    assert made["task_order"] == [a, b]
    batch = await _post(running, "/v1/executions", {"task_ids": [a, UNKNOWN]}, 201)
    assert [each["task_id"] for each in batch["successful"]] == [a]
    assert batch["failed"] == [{"task_id": UNKNOWN, "error": f"Task {UNKNOWN} does not exist"}]


async def test_what_is_wrong_is_refused_by_its_name(running: Running) -> None:
    a, b = await _tasks(running, "a", "b")
    for body, message in (
        ({"task_graph": {a: [b], b: [a]}}, f"Graph contains cycles: {a} -> {b} -> {a}"),
        ({"task_id": a, "max_retries": -1}, "max_retries"),
        ({"task_id": a, "colour": "red"}, "colour"),
        ({"task_id": a, "task_ids": [b]}, "name one of task_id, task_ids, task_graph"),
        ({}, "name one of task_id, task_ids, task_graph"),
        ({"task_ids": a}, "task_ids must be a list"),
        ({"task_ids": [None]}, "task_ids must be a list"),
        ({"task_graph": {a: []}, "workflow_params": [1]}, "workflow_params of a graph"),
    ):
        assert message in (await _post(running, "/v1/executions", body, 422))["detail"]
    assert (await running.http.get(f"/v1/executions/{UNKNOWN}")).status_code == 404
    await _post(running, f"/v1/executions/{UNKNOWN}/cancel", {}, 404)
    assert (await running.get("/v1/executions"))["total_count"] == 0
