"""The GraphQL API: the data of the routes, the caller's projects only, and limits before anything is read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from gateway_keys import Keys, bearer
from gateways import HELLO, Running, gateway, one_task
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import eventually_true

from anabranch.runtime.process.settings import Settings

RUN = "query Run($id: ID!) { run(id: $id) { %s } }"
FIELDS = """id requestId status labels { key value } counts { tasks completed failed }
failures { message } tasks { group name status }"""


async def asked(running: Running, query: str, **variables: Any) -> dict[str, Any]:
    answer = await running.http.post("/graphql", json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def until_listed(running: Running, count: int, **wanted: str) -> None:
    """Wait until the index of runs, which trails them, has as many."""

    async def is_listed() -> bool:
        return len((await running.get("/v1/runs", **wanted))["runs"]) == count

    await eventually_true(is_listed)


async def test_a_run_with_its_tasks_in_one_query() -> None:
    async with gateway() as running:
        await running.submit({**one_task("fail"), "request_id": "r1", "labels": {"team": "data"}})
        # The view trails the final record, which answers before there is one.
        await until_listed(running, 1, status="failed")
        answer = await asked(running, RUN % FIELDS, id="r1")
        view = await running.get("/v1/runs/r1")

    run = answer["data"]["run"]
    assert "errors" not in answer
    assert run["id"] == view["run_id"]
    assert (run["requestId"], run["status"]) == ("r1", "failed")
    assert run["labels"] == [{"key": "team", "value": "data"}]
    assert run["counts"] == {"tasks": 1, "completed": 0, "failed": 1}
    assert [each["status"] for each in run["tasks"]] == ["failed"]
    assert "requested failure" in run["failures"][0]["message"]


async def test_pages_of_runs_are_those_of_the_list() -> None:
    query = "query Runs($after: String) { runs(first: 2, after: $after) { nodes { id } nextCursor } }"
    async with gateway() as running:
        for number in range(5):
            await running.submit({**one_task(), "request_id": f"r{number}"})
        await until_listed(running, 5)
        ids: list[str] = []
        after: str | None = None
        for _ in range(3):
            page = (await asked(running, query, after=after))["data"]["runs"]
            ids += [each["id"] for each in page["nodes"]]
            after = page["nextCursor"]
        listed = (await running.get("/v1/runs"))["runs"]

    assert ids == [each["run_id"] for each in listed]
    assert after is None


async def test_filters_agents_schedules_and_dead_letters() -> None:
    query = """{
      failed: runs(status: "failed") { nodes { requestId } }
      agents { name }
      schedules { id paused next }
      deadLetters { nodes { code runId } nextCursor }
    }"""
    async with gateway() as running:
        await running.http.post("/v1/schedules", json={"id": "hourly", "cron": "0 * * * *", "request": one_task()})
        await running.submit({**one_task("fail"), "request_id": "r1"})
        await running.submit({**HELLO, "request_id": "r2"})
        await until_listed(running, 1, status="failed")
        data = (await asked(running, query))["data"]
        agents = (await running.get("/v1/agents"))["agents"]

    assert data["failed"]["nodes"] == [{"requestId": "r1"}]
    assert data["agents"] == [{"name": each["name"]} for each in agents]
    assert data["schedules"][0]["id"] == "hourly"
    assert len(data["schedules"][0]["next"]) == 10
    assert isinstance(data["deadLetters"]["nodes"], list)


async def test_a_caller_sees_the_runs_of_its_projects_only(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    async with gateway(Settings(gateway_keys=str(keys.path)), token=keys.tokens["submitter"]) as running:
        await running.submit({**one_task(), "request_id": "r1", "project": "shop"})
        await until_listed(running, 1)
        own = await asked(running, '{ runs { nodes { requestId } } run(id: "r1") { status } }')
        body = {"query": '{ runs { nodes { id } } run(id: "r1") { status } }'}
        others = await running.http.post("/graphql", json=body, headers=bearer(keys.tokens["bank"]))
        nobody = await running.http.post("/graphql", json=body, headers=bearer("anb_x_y"))

    assert own["data"]["runs"]["nodes"] == [{"requestId": "r1"}]
    assert others.json()["data"] == {"runs": {"nodes": []}, "run": None}
    assert nobody.status_code == 401


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{ runs { nodes { id", "Syntax Error"),
        ("{ nothing }", "Cannot query field 'nothing'"),
        ("mutation { cancel }", "mutation operation is not supported"),
        ("{ runs(first: 501) { nodes { id } } }", "first must be from 1 to 500"),
        ('{ runs(after: "no-cursor") { nodes { id } } }', "is not a cursor"),
        ("{ runs(first: 500) { nodes { tasks { name status } } } }", "the maximum is 50,000"),
        ("query Q($n: Int = 500) { runs(first: $n) { nodes { tasks { name status } } } }", "Q costs"),
        ("{ " + " ".join(f"a{n}: agents {{ name }}" for n in range(40)) + " }", "aliases"),
        ("{ agents { " + "name " * 3_000 + "} }", "more than 2000 tokens"),
        ("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }", "Cannot spread fragment"),
    ],
)
async def test_a_query_that_is_wrong_or_too_large_is_an_error(query: str, message: str) -> None:
    async with gateway() as running:
        answer = await asked(running, query)

    assert not answer["data"]
    assert message in answer["errors"][0]["message"]


async def test_the_cost_counts_the_variables_that_are_sent() -> None:
    query = """query Q($n: Int = 500) { runs(first: $n) { nodes { ...named } } }
    fragment named on Run { tasks { name status } }"""
    async with gateway() as running:
        small = await asked(running, query, n=20)
        large = await asked(running, query, n=400)
        wrong = await asked(running, query, n="many")

    assert small == {"data": {"runs": {"nodes": []}}}
    assert "the maximum is 50,000" in large["errors"][0]["message"]
    assert wrong["errors"]


async def test_a_body_that_is_no_query_is_refused() -> None:
    async with gateway() as running:
        wrong: list[Any] = [{}, {"query": 7}, {"query": "{ agents { name } }", "variables": []}, {"q": "x"}, []]
        answers = [await running.http.post("/graphql", json=each) for each in wrong]

    assert [each.status_code for each in answers] == [422] * len(wrong)


async def test_the_schema_is_served_and_has_no_mutation() -> None:
    async with gateway() as running:
        schema = (await running.http.get("/graphql")).text

    assert "type Query {" in schema
    assert "type Mutation" not in schema
    assert "type Subscription" not in schema


async def test_a_gateway_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "strawberry", None)
    monkeypatch.delitem(sys.modules, "anabranch_gateway.graphql.schema", raising=False)
    async with gateway() as running:
        answer = await running.http.post("/graphql", json={"query": "{ agents { name } }"})

    assert answer.status_code == 501
    assert "anabranch[graphql]" in answer.json()["detail"]


NAMES = st.sampled_from(["id", "status", "counts", "nodes", "tasks", "runs", "agents", "name", "labels"])
SELECTIONS = st.recursive(
    NAMES,
    lambda inner: st.tuples(NAMES, st.lists(inner, min_size=1, max_size=3)).map(
        lambda found: f"{found[0]} {{ {' '.join(found[1])} }}"
    ),
)


@given(st.lists(SELECTIONS, min_size=1, max_size=4))
@settings(max_examples=50)
def test_any_query_is_answered(selections: list[str]) -> None:
    from anabranch_gateway.graphql.schema import SCHEMA

    result = SCHEMA.execute_sync("{ " + " ".join(selections) + " }", context_value=None)

    assert result.errors, "without a context each query fails, with an error and not with an exception"
