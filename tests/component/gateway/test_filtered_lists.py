"""Runs are listed and searched over HTTP: from the history, and without one from the views."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from gateways import HELLO, Running, gateway, one_task
from waiting import eventually_true


@pytest.fixture(params=["sqlite://", None], ids=["history", "views"])
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with gateway(database_url=request.param) as found:
        await found.submit(HELLO)
        await found.submit({**one_task("no_such_agent_here"), "name": "other"}, wait=None)
        await found.submit({**one_task(), "name": "third", "labels": {"team": "red"}})

        async def is_complete() -> bool:
            page = await found.get("/v1/runs")
            return page["as_of"] > 0 and sum(run["status"] == "completed" for run in page["runs"]) == 2

        await eventually_true(is_complete, because="the list lacks a run")
        yield found


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("labels.team == 'blue'", ["hello"]),
        ('{"field": "labels.team", "operator": "equals", "value": "blue"}', ["hello"]),
        ("status == 'completed' && labels.team in ['red', 'blue']", ["third", "hello"]),
        ("text contains 'letter'", ["hello"]),
        ("duration >= 0 && !(name == 'third')", ["hello"]),
        ("name == 'nobody'", []),
    ],
)
async def test_a_filter_finds_runs(running: Running, condition: str, names: list[str]) -> None:
    page = await running.get("/v1/runs", filter=condition)

    assert [run["name"] for run in page["runs"]] == names
    assert page["as_of"] > 0
    assert page["next_cursor"] is None


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("state == 'failed'", "did you mean `status`?"),
        ("status ==", "column"),
        ("{", "no JSON"),
        ("text == 'a'", "only `contains`"),
        ("name is_type 'string'", ""),
    ],
)
async def test_what_is_no_filter_is_refused(running: Running, condition: str, reason: str) -> None:
    answer = await running.http.get("/v1/runs", params={"filter": condition})

    assert answer.status_code == 422
    assert answer.json()["code"] == "bad_filter"
    assert reason in answer.text


async def test_a_list_has_the_counts_of_members(running: Running) -> None:
    page = await running.get("/v1/runs", filter="name == 'hello'")

    assert page["runs"][0]["counts"] | {"share": 1} == {
        "groups": 1,
        "tasks": 2,
        "members": 3,
        "completed": 3,
        "failed": 0,
        "running": 0,
        "share": 1,
    }
