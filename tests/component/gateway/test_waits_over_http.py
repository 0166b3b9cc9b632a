"""Signals and decisions over HTTP, and the inbox of what waits for a person."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateways import Running, gateway
from waiting import eventually_true

from anabranch.core.names import run_id_for

FORM = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}}


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with gateway() as running:
        yield running


def request_of(**wait: Any) -> dict[str, Any]:
    return {"name": "asks", "task_groups": [{"name": "g", "tasks": [{"name": "t", "wait": wait}]}]}


async def submitted(running: Running, request_id: str, **wait: Any) -> str:
    """The run id of a run with one wait, which has begun to wait."""
    await running.submit({**request_of(**wait), "request_id": request_id}, wait=None)
    run_id = run_id_for(request_id)

    async def is_waiting() -> bool:
        view = await running.get(f"/v1/runs/{run_id}")
        return bool(view["groups"].get("g", {}).get("tasks", {}).get("t", {}).get("waits"))

    await eventually_true(is_waiting)
    return run_id


async def ended(running: Running, run_id: str) -> dict[str, Any]:
    return await running.get(f"/v1/runs/{run_id}/result", wait="20s")


@pytest.mark.parametrize("body", [{"amount": 12}, {"value": {"amount": 12}, "signal_id": "s1"}])
async def test_a_signal_ends_the_wait_with_its_value(running: Running, body: Any) -> None:
    run_id = await submitted(running, "r", signal="paid")

    answer = await running.http.post(f"/v1/runs/{run_id}/signals/paid", json=body)

    assert (answer.status_code, answer.json()["known"]) == (202, True)
    assert (await ended(running, run_id))["results"] == {"t": {"amount": 12}}


async def test_a_signal_before_its_run_is_kept(running: Running) -> None:
    answer = await running.http.post("/v1/runs/later/signals/paid", json=7)
    assert (answer.status_code, answer.json()["known"]) == (202, False)

    await running.submit({**request_of(signal="paid"), "request_id": "later"}, wait=None)

    assert (await ended(running, run_id_for("later")))["results"] == {"t": 7}


async def test_a_signal_to_a_run_that_has_ended_is_a_conflict(running: Running) -> None:
    run_id = await submitted(running, "r", signal="paid")
    await running.http.post(f"/v1/runs/{run_id}/signals/paid")
    await ended(running, run_id)

    answer = await running.http.post(f"/v1/runs/{run_id}/signals/paid")

    assert (answer.status_code, answer.json()["code"]) == (409, "run_ended")


async def test_the_answer_to_a_decision_says_that_it_counts_and_the_next_one_is_told_the_first(
    running: Running,
) -> None:
    run_id = await submitted(running, "r", approval={"subject": "Pay?", "required": 2, "form": FORM})
    path = f"/v1/runs/{run_id}/approvals/g/t"

    def body(by: str, **more: Any) -> dict[str, Any]:
        return {"by": by, "data": {"amount": 5}, **more}

    first = await running.http.post(path, json=body("ann", decision_id="d1"))
    again = await running.http.post(path, json=body("ann", decision_id="d1"))
    twice = await running.http.post(path, json=body("ann"))
    wrong = await running.http.post(path, json={"by": "bob", "data": {"amount": "five"}})

    assert (first.status_code, first.json()["ended"]) == (200, False)
    assert again.status_code == 200
    assert (twice.status_code, twice.json()["stood"]["by"]) == (409, "ann")
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, "/data/amount")
    last = await running.http.post(path, json=body("bob"))
    assert (last.status_code, last.json()["ended"]) == (200, True)
    outcome = await ended(running, run_id)
    assert outcome["results"]["t"]["by"] == "bob"
    gone = await running.http.post(path, json=body("eve"))
    assert (gone.status_code, gone.json()["code"]) == (410, "gone")


async def test_only_assignees_decide_and_only_what_waits(running: Running) -> None:
    run_id = await submitted(running, "r", approval={"assignees": ["ann"]})

    stranger = await running.http.post(f"/v1/runs/{run_id}/approvals/g/t", json={"by": "bob"})
    nothing = await running.http.post(f"/v1/runs/{run_id}/approvals/g/other", json={"by": "ann"})

    assert (stranger.status_code, stranger.json()["code"]) == (403, "not_assignee")
    assert nothing.status_code == 404
    reject = await running.http.post(f"/v1/runs/{run_id}/approvals/g/t", json={"by": "ann", "decision": "reject"})
    assert reject.status_code == 200
    assert (await ended(running, run_id))["status"] == "failed"


async def test_the_inbox_has_what_waits_for_a_person_and_reading_decides_nothing(running: Running) -> None:
    run_id = await submitted(running, "r", approval={"subject": "Pay {run_id}?", "assignees": ["ann"]})

    [found] = (await running.get("/v1/approvals"))["approvals"]

    assert (found["run_id"], found["group"], found["task"], found["index"]) == (run_id, "g", "t", None)
    assert (found["subject"], found["options"]) == (f"Pay {run_id}?", ["approve", "reject"])
    assert (await running.get("/v1/approvals", assignee="bob"))["approvals"] == []
    [row] = (await running.get("/v1/runs"))["runs"]
    assert row["waits_for"] == f"the decision of ann about g/t (Pay {run_id}?)"
    read = await running.http.get(f"/v1/runs/{run_id}/approvals/g/t")
    assert read.status_code == 405
    assert len((await running.get("/v1/approvals"))["approvals"]) == 1


async def test_the_inbox_has_what_a_run_asks_in_its_finally(running: Running) -> None:
    broken = {"name": "broken", "agent": "fail", "after": ["charge"]}
    tasks = [{"name": "charge", "agent": "echo", "message_template": "x", "compensate": {"agent": "echo"}}, broken]
    asks = {"name": "asks", "wait": {"approval": {"subject": "Close it?"}}}
    request = {"task_groups": [{"name": "g", "tasks": tasks}], "finally": [asks], "request_id": "q"}
    await running.submit(request, wait=None)

    async def subjects() -> bool:
        found = (await running.get("/v1/approvals"))["approvals"]
        return [(each["task"], each["subject"]) for each in found] == [("asks", "Close it?")]

    await eventually_true(subjects)
    assert (await running.get("/v1/runs/q"))["status"] == "compensating"
