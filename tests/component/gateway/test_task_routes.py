"""Tasks over HTTP: created, run by the gateway's steward, changed, cancelled, retried, and reported on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from gateway_keys import Keys
from gateways import Running, gateway
from waiting import eventually_true

from anabranch.core.errors import GiveUp
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.agents import Registry, agent
from anabranch.sdk.task import Task

BROKEN = {"is_broken": True}


def _agents() -> Registry:
    broken = dict(BROKEN)

    @agent(name="builder", capabilities=["code_generation", "custom"])
    def build(task: Task) -> dict[str, Any]:
        task.log.info("building")
        return {"built": task.inputs["task"]["name"]}

    @agent(name="tester", capabilities=["testing"])
    def test(task: Task) -> str:
        if broken.pop("is_broken", False):
            raise GiveUp("two tests fail")
        return "passed"

    return Registry().add(build).add(test)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with gateway(registry=_agents(), database_url="sqlite://") as running:
        await _open(running)
        yield running


async def _open(running: Running) -> None:
    async def is_open() -> bool:
        return (await running.http.get("/v1/tasks")).status_code == 200

    await eventually_true(is_open)


async def _create(running: Running, **fields: Any) -> dict[str, Any]:
    response = await running.http.post("/v1/tasks", json=fields)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def _until(running: Running, task_id: str, status: str) -> dict[str, Any]:
    async def has_it() -> bool:
        return bool((await running.get(f"/v1/tasks/{task_id}"))["status"] == status)

    await eventually_true(has_it)
    found: dict[str, Any] = await running.get(f"/v1/tasks/{task_id}")
    return found


async def test_a_task_runs_and_its_dependent_starts_by_itself(running: Running) -> None:
    setup = await _create(running, name="Setup", created_by="ann", priority="high")
    report = await _create(running, name="Report", depends_on=[setup["id"]])
    assert (setup["status"], setup["created_by"], setup["priority"]) == ("pending", "ann", 3)

    early = await running.http.post(f"/v1/tasks/{report['id']}/execute")
    assert (early.status_code, early.json()["code"]) == (409, "task_state")
    started = await running.http.post(f"/v1/tasks/{setup['id']}/execute")
    assert (started.status_code, started.json()["execution_number"]) == (202, 1)
    assert started.headers["location"] == f"/v1/tasks/{setup['id']}/executions/1"

    done = await _until(running, report["id"], "completed")
    assert done["result"] == {"built": "Report"}
    execution = await running.get(f"/v1/tasks/{setup['id']}/executions/last")
    assert (execution["status"], execution["executor_id"]) == ("completed", "builder")
    assert [line["message"] for line in execution["logs"]] == ["building"]
    assert execution["request_id"] == f"task/{setup['id']}/1"
    listed = await running.get(f"/v1/tasks/{setup['id']}/executions")
    assert [each["id"] for each in listed["executions"]] == [execution["id"]]
    for path in ("", "/execute"):
        method = "PATCH" if not path else "POST"
        late = await running.http.request(method, f"/v1/tasks/{setup['id']}{path}", json={})
        assert (late.status_code, late.json()["code"]) == (409, "task_state")


async def test_a_failed_task_is_retried_and_its_dependent_goes_on(running: Running) -> None:
    tested = await _create(running, name="Test", task_type="testing")
    deploy = await _create(running, name="Deploy", depends_on=[tested["id"]])
    await running.http.post(f"/v1/tasks/{tested['id']}/execute")
    failed = await _until(running, tested["id"], "failed")
    assert failed["error_message"] == "two tests fail"
    waiting = await running.get(f"/v1/tasks/{deploy['id']}")
    assert waiting["status"] == "pending"
    assert f"{tested['id']} failed" in waiting["reason"]

    retried = await running.http.post(f"/v1/tasks/{tested['id']}/retry")
    assert (retried.status_code, retried.json()["execution_number"]) == (202, 2)
    assert (await _until(running, deploy["id"], "completed"))["result"] == {"built": "Deploy"}
    again = await running.http.post(f"/v1/tasks/{tested['id']}/retry")
    assert again.status_code == 409


async def test_what_has_not_started_is_changed_assigned_cancelled_and_deleted(running: Running) -> None:
    task = await _create(running, name="Review", task_type="code_review")
    changed = await running.http.patch(f"/v1/tasks/{task['id']}", json={"assigned_to": "ann", "tags": ["b", "a"]})
    assert (changed.json()["assigned_to"], changed.json()["tags"]) == ("ann", ["a", "b"])
    wrong = await running.http.patch(f"/v1/tasks/{task['id']}", json={"name": "", "colour": 1})
    assert wrong.status_code == 422
    assert {each["path"] for each in wrong.json()["errors"]} == {"/colour"}
    empty = await running.http.patch(f"/v1/tasks/{task['id']}", json={"name": ""})
    assert [each["path"] for each in empty.json()["errors"]] == ["/name"]

    await running.http.post(f"/v1/tasks/{task['id']}/execute")

    async def says_why() -> bool:
        return (await running.get(f"/v1/tasks/{task['id']}"))["reason"] is not None

    await eventually_true(says_why)
    assert "'ann'" in (await running.get(f"/v1/tasks/{task['id']}"))["reason"]
    cancelled = await running.http.post(f"/v1/tasks/{task['id']}/cancel", json={"reason": "not needed"})
    again = await running.http.post(f"/v1/tasks/{task['id']}/cancel")
    unknown = await running.http.post(f"/v1/tasks/{uuid4()}/cancel")
    assert [each.json()["cancelled"] for each in (cancelled, again, unknown)] == [True, False, False]

    other = await _create(running, name="Other")
    assert (await running.http.delete(f"/v1/tasks/{other['id']}")).status_code == 204
    assert (await running.http.get(f"/v1/tasks/{other['id']}")).status_code == 404
    assert (await running.http.delete(f"/v1/tasks/{task['id']}")).status_code == 409


async def test_dependencies_that_cannot_be_are_refused(running: Running) -> None:
    a, missing = await _create(running, name="a"), str(uuid4())
    b = await _create(running, name="b", depends_on=[a["id"]])
    nobody = await running.http.post("/v1/tasks", json={"name": "c", "depends_on": [missing]})
    assert (nobody.status_code, nobody.json()["code"]) == (422, "task_refused")
    assert [each["message"] for each in nobody.json()["errors"]] == [f"Dependency task {missing} does not exist"]
    itself = await running.http.patch(f"/v1/tasks/{a['id']}", json={"depends_on": [a["id"]]})
    assert itself.json()["errors"][0]["message"] == "Task cannot depend on itself"
    circle = await running.http.patch(f"/v1/tasks/{a['id']}", json={"depends_on": [b["id"]]})
    assert (circle.status_code, circle.json()["code"]) == (422, "circular_dependency")
    assert " -> ".join([a["id"], b["id"], a["id"]]) in circle.json()["detail"]


async def test_a_batch_is_created_at_once_or_not_at_all(running: Running) -> None:
    first, second = str(uuid4()), str(uuid4())
    batch = [{"id": second, "name": "2", "depends_on": [first]}, {"id": first, "name": "1"}]
    created = await running.http.post("/v1/tasks", json={"tasks": batch})
    assert [each["name"] for each in created.json()["tasks"]] == ["2", "1"]
    repeated = await running.http.post("/v1/tasks", json={"tasks": batch})
    assert repeated.json() == created.json()
    wrong = await running.http.post("/v1/tasks", json={"tasks": [{"name": "3"}, {"name": "4", "priority": 9}]})
    assert wrong.json()["errors"][0]["path"].startswith("/tasks/1/priority")
    for body in ({"tasks": []}, {"tasks": 1}, {"tasks": [1]}, {"tasks": [{"name": "x"}], "name": "y"}, {}):
        assert (await running.http.post("/v1/tasks", json=body)).status_code == 422

    page = await running.get("/v1/tasks", limit=1)
    rest = await running.get("/v1/tasks", cursor=page["next_cursor"])
    assert {each["id"] for each in page["tasks"] + rest["tasks"]} == {first, second}
    assert rest["next_cursor"] is None
    assert (await running.http.get("/v1/tasks", params={"cursor": "x"})).status_code == 422
    assert [each["name"] for each in (await running.get("/v1/tasks", q="1"))["tasks"]] == ["1"]
    assert (await running.get("/v1/tasks", status="failed"))["tasks"] == []

    plan = await running.get("/v1/tasks/plan")
    assert [[each["name"] for each in phase] for phase in plan["phases"]] == [["1"], ["2"]]
    graph = await running.get("/v1/tasks/graph")
    assert graph["edges"] == [{"from": first, "to": second}]
    drawn = await running.http.get("/v1/tasks/graph", params={"format": "mermaid"})
    assert drawn.text.startswith("flowchart LR")
    assert (await running.http.get("/v1/tasks/graph", params={"task": str(uuid4())})).status_code == 404
    assert (await running.get("/v1/tasks/reports/queue"))["pending_tasks"] == 2
    assert (await running.get("/v1/tasks/reports/metrics"))["concurrent_tasks"] == 0
    assert (await running.get("/v1/tasks/reports/performance"))["summary"]["executions"] == 0


async def test_projects_hold_tasks_and_agents_are_registered_by_name(running: Running) -> None:
    project = (await running.http.post("/v1/projects", json={"name": "Release 2"})).json()
    task = await _create(running, name="Notes", project_id=project["id"], task_type="monitoring")
    await _create(running, name="Other")
    assert [each["id"] for each in (await running.get("/v1/projects"))["projects"]] == [project["id"]]
    assert (await running.get(f"/v1/projects/{project['id']}"))["name"] == "Release 2"
    assert (await running.http.get("/v1/projects/none")).status_code == 404
    assert (await running.http.post("/v1/projects", json={"name": ""})).status_code == 422
    found = await running.get("/v1/tasks", project_id=project["id"])
    assert [each["id"] for each in found["tasks"]] == [task["id"]]
    nowhere = await running.http.post("/v1/tasks", json={"name": "x", "project_id": "none"})
    assert nowhere.status_code == 422

    body = {"agent_type": "builder", "capabilities": ["monitoring"]}
    assert (await running.http.put("/v1/task-agents/watcher", json=body)).json()["capabilities"] == ["monitoring"]
    assert (await running.http.put("/v1/task-agents/watcher", json={"capabilities": 1})).status_code == 422
    await running.http.post(f"/v1/tasks/{task['id']}/execute")
    await _until(running, task["id"], "completed")
    assert (await running.get(f"/v1/tasks/{task['id']}/executions/1"))["executor_id"] == "watcher"
    assert [each["id"] for each in (await running.get("/v1/task-agents"))["agents"]] == ["watcher"]
    assert (await running.http.delete("/v1/task-agents/watcher")).status_code == 204
    assert (await running.http.delete("/v1/task-agents/watcher")).status_code == 404


async def test_callers_neither_see_nor_reach_tasks_of_other_projects(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    settings = Settings(gateway_keys=str(keys.path))
    async with gateway(settings, _agents(), database_url="sqlite://") as running:
        bank, own = keys.of("bank"), keys.of("submitter")

        async def is_open() -> bool:
            return (await running.http.get("/v1/tasks", headers=own)).status_code == 200

        await eventually_true(is_open)
        secret = (await running.http.post("/v1/tasks", json={"name": "s"}, headers=bank)).json()
        assert (secret["owner"], secret["created_by"] != "system") == ("bank", True)
        path = f"/v1/tasks/{secret['id']}"
        calls: list[tuple[str, str, Any]] = [
            ("GET", path, None),
            ("PATCH", path, {"name": "x"}),
            ("DELETE", path, None),
            ("POST", f"{path}/execute", {}),
            ("POST", f"{path}/retry", {}),
            ("GET", f"{path}/executions", None),
            ("GET", f"{path}/executions/last", None),
            ("GET", f"/v1/tasks/graph?task={secret['id']}", None),
            ("GET", f"/v1/tasks/plan?task={secret['id']}", None),
        ]
        for method, target, body in calls:
            response = await running.http.request(method, target, json=body, headers=own)
            assert response.status_code == 404, (method, target)
        cancelled = await running.http.post(f"{path}/cancel", headers=own)
        assert cancelled.json()["cancelled"] is False
        for body in ({"name": "d", "depends_on": [secret["id"]]}, {"name": "d", "project": "bank"}):
            assert (await running.http.post("/v1/tasks", json=body, headers=own)).status_code in (403, 422)
        taken = await running.http.post("/v1/tasks", json={"name": "d", "id": secret["id"]}, headers=own)
        assert (taken.status_code, taken.json()["code"]) == (409, "task_state")
        mine = (await running.http.post("/v1/tasks", json={"name": "m"}, headers=own)).json()
        moved = await running.http.patch(
            f"/v1/tasks/{mine['id']}", json={"depends_on": [secret["id"]]}, headers=own
        )
        assert (moved.status_code, moved.json()["code"]) == (422, "task_refused")
        listed = (await running.http.get("/v1/tasks", headers=own)).json()["tasks"]
        assert [each["name"] for each in listed] == ["m"]
        foreign = await running.http.get("/v1/tasks", params={"project": "bank"}, headers=own)
        assert foreign.status_code == 403
        assert (
            await running.http.post("/v1/tasks", json={"name": "v"}, headers=keys.of("viewer"))
        ).status_code == 403
        assert (await running.http.put("/v1/task-agents/a", json={}, headers=own)).status_code == 403
        assert (await running.http.get(path, headers=bank)).json()["status"] == "pending"


async def test_without_a_database_tasks_are_not_there_and_runs_go_on() -> None:
    async with gateway() as running:
        response = await running.http.get("/v1/tasks")
        assert (response.status_code, response.json()["code"]) == (501, "not_supported")
        assert "ANABRANCH_DATABASE_URL" in response.json()["detail"]


async def test_with_the_database_away_tasks_answer_503_and_the_gateway_is_ready() -> None:
    async with gateway(database_url="postgresql://nobody@127.0.0.1:1/none") as running:
        response = await running.http.get("/v1/tasks")
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert (await running.http.get("/readyz")).status_code == 200
