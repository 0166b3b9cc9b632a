"""Runs over HTTP on an embedded system: submit, inspect and control. Real requests to a server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
import yaml
from gateways import HELLO, Running, gateway, one_task
from waiting import eventually_true

from anabranch.core.names import run_id_for
from anabranch.core.wire.run_view import RunView
from anabranch_gateway.api import serializers


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with gateway() as running:
        yield running


async def test_a_submit_is_answered_before_the_run_has_ended_and_leads_to_it(running: Running) -> None:
    answer = await running.submit({**HELLO, "request_id": "r1"}, wait=None)

    assert answer.status_code == 202
    document = answer.json()
    assert document["run_id"] == run_id_for("r1")
    assert answer.headers["location"] == f"/v1/runs/{document['run_id']}"
    assert (document["status"], document["project"]) == ("accepted", "default")
    assert (await running.get(document["links"]["self"]))["request_id"] == "r1"


async def test_prefer_wait_returns_the_outcome(running: Running) -> None:
    answer = await running.submit(HELLO)

    assert answer.status_code == 200
    assert answer.json()["results"]["letter"] == {"lines": ["Hello Ada", "Hello Grace"]}
    assert answer.headers["preference-applied"] == "wait=20"


async def test_a_wait_that_is_too_short_returns_202_as_without_a_wait(running: Running) -> None:
    answer = await running.submit(one_task("sleep", inputs={"seconds": 60}), wait=0)

    assert answer.status_code == 202


async def test_the_same_request_twice_is_one_run_and_another_of_its_id_a_conflict(running: Running) -> None:
    first = await running.submit(HELLO, **{"idempotency-key": "order 1"})
    again = await running.submit(HELLO, **{"idempotency-key": "order 1"})
    other = await running.submit(one_task(), wait=None, **{"idempotency-key": "order 1"})

    assert first.json() == again.json()
    assert (other.status_code, other.json()["code"]) == (409, "request_id_conflict")
    assert other.headers["content-type"] == "application/problem+json"


async def test_yaml_and_the_envelope_are_requests_too(running: Running) -> None:
    as_yaml = await running.http.post(
        "/v1/runs",
        content=yaml.safe_dump(HELLO),
        headers={"content-type": "application/yaml", "prefer": "wait=20"},
    )
    enveloped = await running.submit({"key": "task_group:e1", "action": "initialize", "object": one_task()})

    assert as_yaml.json()["status"] == "completed"
    assert enveloped.json()["request_id"] == "e1"


async def test_a_wrong_request_is_refused_with_every_error(running: Running) -> None:
    request = {"task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "none", "result_keys": []}]}]}

    answer = await running.submit(request, wait=None)

    assert answer.status_code == 422
    assert {error["code"] for error in answer.json()["errors"]} == {"schema", "unknown_agent"}
    assert answer.json()["errors"][0]["path"].startswith("/task_groups/0/tasks/0")


async def test_a_body_that_is_not_a_request_is_refused(running: Running) -> None:
    for body, code in ((b"{", "not_json"), (b"[]", "not_a_request"), (b"", "not_json")):
        answer = await running.http.post("/v1/runs", content=body)

        assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_a_body_over_the_limit_is_refused_without_being_read(running: Running) -> None:
    answer = await running.http.post("/v1/runs", content=b"x" * 20_000_001)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_plan_has_the_tasks_and_their_dependencies(running: Running) -> None:
    good = await running.http.post("/v1/plan", params={"expand": "true"}, json=HELLO)
    bad = await running.http.post("/v1/plan", json=one_task("nobody"))
    unreadable = await running.http.post("/v1/plan", content=b"{")

    assert good.json()["edges"] == [[0, 1]]
    assert [each["message"] for each in good.json()["tasks"][0]["expanded"]] == ["Hello Ada", "Hello Grace"]
    assert (bad.status_code, bad.json()["valid"], bad.json()["edges"]) == (200, False, [])
    assert unreadable.json()["errors"][0]["code"] == "not_json"


async def test_a_wide_plan_lists_its_first_members(running: Running) -> None:
    wide = {"type": "custom", "transform_rules": {"sequence": {"n": {"start": 0, "end": 49_999, "step": 1}}}}

    answer = await running.http.post("/v1/plan", params={"expand": 1}, json=one_task(expansion_config=wide))

    [task] = answer.json()["tasks"]
    assert (task["members"], len(task["expanded"])) == (50_000, 2_000)


async def test_a_run_has_a_view_a_graph_a_request_and_a_result(running: Running) -> None:
    run = (await running.submit({**HELLO, "request_id": "r1"})).json()["run_id"]
    await _ended(running, "r1")

    view = await running.get("/v1/runs/r1")
    graph = await running.get("/v1/runs/r1/graph")
    request = await running.get("/v1/runs/r1/request")
    result = await running.get(f"/v1/runs/{run}/result")

    assert (view["status"], view["project"], view["events_from"]) == ("completed", "default", 0)
    assert view["tasks_total"] == 2
    assert [node["id"] for node in graph["nodes"]] == ["g/greet", "g/letter"]
    assert graph["edges"] == [[0, 1]]
    assert [node["status"] for node in graph["nodes"]] == ["completed", "completed"]
    assert request["task_groups"] == HELLO["task_groups"]
    assert result["executions"]["completed"] == 3


async def test_a_long_list_comes_in_pages(running: Running) -> None:
    numbers = list(range(30_000))
    request = one_task(inputs="{numbers}", dependencies=["numbers"]) | {"context": {"numbers": numbers}}
    await running.submit({**request, "request_id": "r1"})

    first = await running.get("/v1/runs/r1/results/k", limit=10_000)
    last = await running.get("/v1/runs/r1/results/k", **{"from": 29_990})
    result = await running.get("/v1/runs/r1/result")

    assert (first["count"], first["items"], first["next_from"]) == (30_000, numbers[:10_000], 10_000)
    assert (last["items"], last["next_from"]) == (numbers[29_990:], None)
    assert "$anabranch" in result["results"]["k"]


async def test_a_value_that_looks_like_a_reference_to_another_session_is_not_resolved(running: Running) -> None:
    """An agent may return anything, including references to values of another session."""
    await running.submit({**one_task(inputs={"pin": 1234}), "session_id": "victim"})
    forged = {"$anabranch": "victim/k", "count": 1, "bytes": 10}
    await running.submit({**one_task(inputs=forged), "request_id": "thief", "session_id": "thief"})

    direct = await running.get("/v1/runs/thief/results/k")
    result = await running.get("/v1/runs/thief/result")

    assert direct["value"] == forged
    assert "1234" not in str(result)


@pytest.mark.parametrize("session", ["victim", "thief"])
async def test_a_value_that_looks_like_a_reference_is_shown_unchanged(running: Running, session: str) -> None:
    """As a result, in the response to a waiting submit, as a member's part of a join, and as a member's input."""
    pin = "1234" * 20_000
    await running.submit({**one_task(inputs={"pin": pin}), "request_id": "v", "session_id": "victim"})
    await running.submit({**one_task(inputs={"pin": pin}), "request_id": "t", "session_id": "thief"})
    run_id = run_id_for(session[0])
    forged = {"$anabranch": f"{session}/k", "count": 1, "bytes": 80_010, "run_id": run_id}
    expansion = {"type": "array", "array_mapping": {"item": "list"}, "output_format": "index"}
    request = one_task(inputs="{item}", dependencies=["list"], expansion_config=expansion)
    request["task_groups"][0]["tasks"] += [
        {"name": "one", "agent": "echo", "inputs": "{c}", "dependencies": ["c"], "result_keys": ["one"]},
        {"name": "two", "agent": "echo", "inputs": "{one}", "dependencies": ["one"], "result_keys": ["two"]},
    ]
    context = {"list": [forged, [forged]], "c": forged}

    await running.submit({**request, "request_id": "r1", "session_id": "thief", "context": context})

    one = await running.get("/v1/runs/r1/results/one")
    assert (one["value"], one["bytes"], one["count"]) == (forged, len(orjson.dumps(forged)), 4)
    assert (await running.get("/v1/runs/r1/results/k"))["value"] == [forged, [forged]]
    member = await running.get("/v1/runs/r1/members/g/t/0")
    assert (member["variables"], member["inputs"]) == ({"item": forged}, forged)
    assert (member["result"], member["result_known"]) == ({"k": forged}, "exact")
    for name, key in (("one", "c"), ("two", "one")):
        member = await running.get(f"/v1/runs/r1/members/g/{name}/-")
        assert (member["inputs"], member["result"], member["result_known"]) == (forged, {name: forged}, "exact")
        shown = (await running.get("/v1/runs/r1/context"))["state"][key]["value"]
        assert (shown["$anabranch"], shown["run_id"]) == (f"thief/{key}", run_id_for("r1"))
    outcome = await running.get("/v1/runs/r1/result")
    assert outcome["results"]["one"]["$anabranch"] == "thief/one"
    assert "1234" not in str(outcome)


async def test_a_large_object_is_not_a_list(running: Running) -> None:
    """The count of an object is the number of its fields."""
    wide = {f"k{n}": "x" * 1_000 for n in range(100)}
    await running.submit({**one_task(inputs=wide), "request_id": "r1"})

    found = await running.get("/v1/runs/r1/results/k")

    assert (found["value"], found.get("items")) == (wide, None)


async def test_an_open_run_has_no_result_and_can_be_cancelled_once(running: Running) -> None:
    await running.submit({**one_task("sleep", inputs={"seconds": 60}), "request_id": "r1"}, wait=None)

    early = await running.http.get("/v1/runs/r1/result")
    cancelled = await running.http.post("/v1/runs/r1/cancel")
    result = await running.get("/v1/runs/r1/result", wait="20s")
    late = await running.http.post("/v1/runs/r1/pause")

    assert (early.status_code, early.json()["code"]) == (409, "run_open")
    assert (cancelled.status_code, cancelled.json()["action"]) == (202, "cancel")
    assert result["status"] == "cancelled"
    assert (late.status_code, late.json()["code"]) == (409, "run_ended")


@pytest.mark.parametrize(("action", "results"), [("cancel", {"last": "cleaned"}), ("terminate", {})])
async def test_a_cancel_runs_finally_and_a_terminate_does_not(
    running: Running, action: str, results: dict[str, Any]
) -> None:
    last = {"name": "last", "agent": "echo", "message_template": "cleaned", "result_keys": ["last"]}
    document = {**one_task("sleep", inputs={"seconds": 60}), "request_id": "r1", "finally": [last]}
    await running.submit(document, wait=None)

    answer = await running.http.post(f"/v1/runs/r1/{action}", json={"by": "ann", "reason": "no need"})
    result = await running.get("/v1/runs/r1/result", wait="20s")

    assert (answer.status_code, answer.json()["action"]) == (202, action)
    assert (result["status"], result["results"]) == ("cancelled", results)
    stopped = result["stopped_by"]
    assert (stopped["action"], stopped["by"], stopped["reason"]) == (action, "ann", "no need")


async def test_pause_and_resume_are_passed_on(running: Running) -> None:
    await running.submit({**one_task("sleep", inputs={"seconds": 60}), "request_id": "r1"}, wait=None)

    for action, paused in (("pause", True), ("resume", False)):
        answer = await running.http.post(f"/v1/runs/r1/{action}")
        assert answer.status_code == 202
        await _until(running, "r1", lambda view, wanted=paused: view["paused"] is wanted)


async def test_a_retry_is_a_run_of_its_own(running: Running) -> None:
    await running.submit({**one_task("fail", inputs={"times": 9}), "request_id": "r1"})

    answer = await running.http.post("/v1/runs/r1/retry", json={"request_id": "r2"})
    result = await running.get("/v1/runs/r2/result", wait=20)
    unknown = await running.http.post("/v1/runs/r1/retry", json={"id": "r2"})

    assert (answer.status_code, answer.json()["request_id"]) == (202, "r2")
    assert (result["status"], result["retry_of"]) == ("failed", run_id_for("r1"))
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_field")


async def test_runs_are_listed_the_latest_first_with_filters_and_a_cursor(running: Running) -> None:
    for number in range(5):
        labels = {"parity": "even" if number % 2 == 0 else "odd"}
        await running.submit({**one_task(), "request_id": f"r{number}", "labels": labels})
    await _until_listed(running, lambda runs: [run["status"] for run in runs] == ["completed"] * 5)

    first = await running.get("/v1/runs", limit=2)
    rest = await running.get("/v1/runs", limit=10, cursor=first["next_cursor"])
    even = await running.get("/v1/runs", label="parity:even")
    since = await running.get("/v1/runs", since=first["runs"][0]["submitted_at"])

    assert [run["request_id"] for run in first["runs"]] == ["r4", "r3"]
    assert [run["request_id"] for run in rest["runs"]] == ["r2", "r1", "r0"]
    assert rest["next_cursor"] is None
    assert [run["request_id"] for run in even["runs"]] == ["r4", "r2", "r0"]
    assert [run["request_id"] for run in since["runs"]] == ["r4"]
    assert first["runs"][0]["counts"]["completed"] == 1
    assert "groups" not in first["runs"][0]


async def test_an_invalid_cursor_is_refused(running: Running) -> None:
    for cursor in ("x", "W10", "bnVsbA", "WzEsIm5vIiwieCJd", "é"):
        answer = await running.http.get("/v1/runs", params={"cursor": cursor})

        assert (answer.status_code, answer.json()["code"]) == (422, "bad_position")


async def test_an_unknown_run_is_not_found(running: Running) -> None:
    for path in ("", "/graph", "/request", "/result", "/results/k", "/events", "/logs", "/why"):
        answer = await running.http.get(f"/v1/runs/nobody{path}")

        assert answer.status_code == 404
        assert answer.json() | {"detail": ""} == {
            "type": "urn:anabranch:problem:not_found",
            "title": "Not Found",
            "status": 404,
            "detail": "",
            "instance": f"/v1/runs/nobody{path}",
            "code": "not_found",
        }


async def test_the_dashboard_and_its_files_are_served_and_nothing_beside_them(running: Running) -> None:
    page = await running.http.get("/")
    stolen = await running.http.get("/assets/..%2f..%2fapp.py")

    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert stolen.status_code == 404


async def test_why_shows_what_an_open_run_waits_for(running: Running) -> None:
    waiting = one_task(external_dependencies=["outside"])
    await running.submit({**waiting, "request_id": "r1", "session_id": "s"}, wait=None)
    await _until(running, "r1", lambda view: view["groups"])

    document = await running.get("/v1/runs/r1/why")
    healed = await running.http.post("/v1/runs/r1/heal")

    assert [each["fact"] for each in document["missing"]] == ["waits_for_external_key"]
    assert healed.json()["healed"]


async def test_the_shared_context_is_returned_by_versions(running: Running) -> None:
    await running.submit({**HELLO, "request_id": "r1"})

    state = await running.get("/v1/runs/r1/context")
    first = await running.get("/v1/runs/r1/context", at=1)
    changed = await running.get("/v1/runs/r1/context/diff", a=1)
    beyond = await running.http.get("/v1/runs/r1/context", params={"at": 99})

    assert set(state["state"]) == {"people", "greetings", "letter"}
    assert (first["at"], set(first["state"])) == (1, {"people"})
    assert {each["key"] for each in changed["differences"]} == {"greetings", "letter"}
    assert beyond.status_code == 404


async def test_the_system_status_has_services_and_workers(running: Running) -> None:
    await running.submit(HELLO)
    [run] = (await running.get("/v1/runs"))["runs"] or [None]

    document = await running.get("/v1/system")

    assert {each["name"]: each["running"] for each in document["services"]} == {
        "agency": True,
        "taskgroup": True,
        "eventmanager": True,
    }
    assert run is None or document["workers"][0]["alive"]


async def test_the_live_workers_and_their_agents_are_listed(running: Running) -> None:
    [worker] = (await running.get("/v1/workers"))["workers"]
    agents = {each["name"]: each for each in (await running.get("/v1/agents"))["agents"]}

    assert (worker["load"], worker["pool"]) == ({"chunks": 0, "members": 0}, "default")
    assert set(worker["agents"]) == set(agents) >= {"echo", "sleep"}
    assert agents["echo"]["workers"] == [worker["id"]]


async def _ended(running: Running, run: str) -> None:
    await _until(running, run, lambda view: view["ended_at"] is not None)


async def _until(running: Running, run: str, holds: Any) -> None:
    """Wait until the view of a run meets the condition: the view lags behind the run a little."""

    async def is_met() -> bool:
        return bool(holds(await running.get(f"/v1/runs/{run}")))

    await eventually_true(is_met)


async def _until_listed(running: Running, holds: Any) -> None:
    """Wait until the list of runs meets the condition: the event manager writes views in windows."""

    async def is_met() -> bool:
        return bool(holds((await running.get("/v1/runs"))["runs"]))

    await eventually_true(is_met)


def test_the_share_of_a_run_counts_tasks_without_events() -> None:
    """Of four tasks one is done and one is half done; the members of the others are not known."""
    task = {"started": 10, "completed": 0, "failed": 0, "members": 10}
    known = {
        "a": {**task, "status": "completed", "completed": 10},
        "b": {**task, "status": "running", "failed": 5},
    }
    groups = {"g": {"status": "running", "tasks": known}}
    view = RunView.from_document({"run_id": "r", "status": "running", "groups": groups, "tasks_total": 4})

    counts = serializers.counts(view)

    assert (counts["tasks"], counts["members"], counts["share"]) == (4, 20, 0.375)
    assert serializers.counts(replace(view, tasks_total=None))["share"] is None


def test_a_run_is_not_shown_as_done_before_its_last_task_is_joined() -> None:
    task = {"started": 10, "completed": 10, "failed": 0, "members": 10}
    groups = {"g": {"status": "running", "tasks": {"a": {**task, "status": "running"}}}}
    view = RunView.from_document({"run_id": "r", "status": "running", "groups": groups, "tasks_total": 1})

    assert serializers.counts(view)["share"] == 0.99
    assert serializers.counts(replace(view, status="completed"))["share"] == 1.0


async def test_a_definition_is_stored_once_and_started_by_name(running: Running) -> None:
    shout = {
        "name": "shout",
        "version": 1,
        "input_schema": {"type": "object", "required": ["word"], "properties": {"word": {"type": "string"}}},
        "request": one_task("echo", inputs="{word}!"),
    }
    pushed = await running.http.post("/v1/definitions", json=shout)
    again = await running.http.post("/v1/definitions", json=shout)
    other = await running.http.post("/v1/definitions", json={**shout, "request": HELLO})
    invalid = await running.http.post("/v1/definitions", json={**shout, "version": 2, "request": {}})

    assert (pushed.status_code, again.json()) == (201, pushed.json())
    assert (other.status_code, other.json()["code"]) == (409, "definition_conflict")
    assert invalid.status_code == 422
    assert invalid.json()["errors"][0]["path"].startswith("/request")
    assert (await running.get("/v1/definitions"))["definitions"][0]["hash"] == pushed.json()["hash"]
    assert (await running.get("/v1/definitions/shout@1"))["input_schema"] == shout["input_schema"]
    assert (await running.http.get("/v1/definitions/whisper")).status_code == 404

    answer = await running.submit({"definition": "shout", "input": {"word": "hey"}, "request_id": "d1"})
    refused = await running.submit({"definition": "shout", "input": {"word": 1}})

    assert answer.json()["status"] == "completed"
    assert "hey!" in answer.json()["results"].values()
    assert answer.json()["definition"]["version"] == "1"
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "/input/word")


async def test_a_fork_takes_over_what_does_not_depend_on_the_change(running: Running) -> None:
    first = (await running.submit(HELLO)).json()
    path = f"/v1/runs/{first['run_id']}/fork"

    started = await running.http.post(path, json={"from": "letter", "request_id": "again"})
    empty = await running.http.post(path, json={})
    unknown = await running.http.post(path, json={"form": "letter"})
    absent = await running.http.post(path, json={"from": "ghost"})
    invalid = await running.http.post(path, json={"request": {"groups": []}})

    assert (absent.status_code, absent.json()["errors"][0]["path"]) == (422, "/from")
    assert invalid.status_code == 422
    assert (started.status_code, started.json()["run_id"]) == (202, run_id_for("again"))
    assert (empty.status_code, unknown.status_code) == (422, 422)
    outcome = await running.get(f"/v1/runs/{run_id_for('again')}/result", wait="20s")
    assert outcome["results"] == first["results"]
    assert outcome["forked_from"] == first["run_id"]
