"""Events over HTTP: published for tasks that wait for them, in the caller's project, once for each id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateways import Running, gateway

from anabranch.core.names import run_id_for


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with gateway() as running:
        yield running


def request_of(request_id: str, count: int = 1, **fields: Any) -> dict[str, Any]:
    wait = {"event": {"name": "paid", "key": "order-7"}}
    tasks = [{"name": f"t{number}", "wait": wait} for number in range(count)]
    return {"request_id": request_id, "task_groups": [{"name": "g", "tasks": tasks}], **fields}


async def test_an_event_before_its_run_ends_the_wait(running: Running) -> None:
    event = {"name": "paid", "key": "order-7", "id": "p1", "data": {"amount": 12}, "ttl": "1h"}

    answer = await running.http.post("/v1/events", json=event)

    assert answer.status_code == 202
    assert answer.json() == {"id": "p1", "name": "paid", "key": "order-7", "project": "default"}
    await running.submit(request_of("r"), wait=None)
    ended = await running.get(f"/v1/runs/{run_id_for('r')}/result", wait="20s")
    assert ended["results"] == {"t0": {"amount": 12}}


async def test_a_number_is_the_key_that_its_text_is(running: Running) -> None:
    answer = await running.http.post("/v1/events", json={"name": "paid", "key": 4711, "data": 1})

    assert (answer.status_code, answer.json()["key"]) == (202, "4711")
    waits = [{"name": "t", "wait": {"event": {"name": "paid", "key": 4711}}}]
    await running.submit({"request_id": "r", "task_groups": [{"name": "g", "tasks": waits}]}, wait=None)
    ended = await running.get(f"/v1/runs/{run_id_for('r')}/result", wait="20s")
    assert ended["results"] == {"t": 1}


async def test_a_repeated_idempotency_key_is_the_same_event(running: Running) -> None:
    for number in range(2):
        headers = {"idempotency-key": "once"}
        answer = await running.http.post(
            "/v1/events", json={"name": "paid", "key": "order-7", "data": number}, headers=headers
        )
        assert answer.json()["id"] == "once"
    await running.http.post("/v1/events", json={"name": "paid", "key": "order-7", "data": "next"})

    await running.submit(request_of("r", 2), wait=None)

    ended = await running.get(f"/v1/runs/{run_id_for('r')}/result", wait="20s")
    assert ended["results"] == {"t0": 0, "t1": "next"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"key": "k"}, "is empty"),
        ({"name": "paid", "key": "k" * 501}, "500 characters"),
        ({"name": "paid", "ttl": "soon"}, "soon"),
        ({"name": "paid", "payload": 1}, "unknown field 'payload'"),
        ({"name": "paid", "key": True}, "key"),
    ],
)
async def test_what_is_no_event_is_refused(running: Running, body: dict[str, Any], says: str) -> None:
    answer = await running.http.post("/v1/events", json=body)

    assert answer.status_code == 422
    assert says in answer.text
