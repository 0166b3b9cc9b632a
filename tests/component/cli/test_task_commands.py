"""`anabranch tasks` prints the same through a gateway and with the database of the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from embedded_commands import connect_commands
from gateways import Running, gateway
from waiting import eventually_true

from anabranch.cli.commands import tasks
from anabranch.cli.render.tables import Form
from anabranch.core.errors import AnabranchError, GiveUp, Misconfigured, RequestRefused
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.agents import Registry, agent
from anabranch.sdk.task import Task


@agent(name="builder", capabilities=["custom"])
def build(task: Task) -> str:
    task.log.info("building")
    return f"built {task.inputs['task']['name']}"


@agent(name="tester", capabilities=["testing"])
def fail(task: Task) -> str:
    raise GiveUp("two tests fail")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tasks.db'}"


@pytest.fixture
async def running(url: str) -> AsyncIterator[Running]:
    async with gateway(registry=Registry().add(build).add(fail), database_url=url) as running:

        async def is_open() -> bool:
            return (await running.http.get("/v1/tasks")).status_code == 200

        await eventually_true(is_open)
        yield running


@pytest.fixture(params=["direct", "through a gateway"])
def settings(
    request: pytest.FixtureRequest, running: Running, url: str, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    connect_commands(monkeypatch, running.system.client)
    return Settings(database_url=url) if request.param == "direct" else Settings(url=running.service.url)


def written(folder: Path, document: Any) -> str:
    file = folder / "tasks.json"
    file.write_bytes(orjson.dumps(document))
    return str(file)


async def created(
    settings: Settings, folder: Path, capsys: pytest.CaptureFixture[str], document: Any
) -> list[str]:
    assert await tasks.create(settings, written(folder, document), "ann", json=True) == 0
    found = orjson.loads(capsys.readouterr().out)["tasks"]
    assert {each["created_by"] for each in found} == {"ann"}
    return [each["id"] for each in found]


async def test_a_task_is_created_run_and_shown(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [task] = await created(settings, tmp_path, capsys, {"name": "Build", "priority": "high"})
    assert await tasks.start(settings, "run", task, None, wait=True, json=False) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("execution 1  completed  run ")
    assert "info  building\n" in shown
    assert "result: built Build\n" in shown
    await tasks.show_task(settings, task, json=False)
    shown = capsys.readouterr().out
    assert "status        completed\n" in shown
    assert "priority      high\n" in shown
    await tasks.list_tasks(settings, {"status": "completed", "priority": "high"}, form=Form.CSV)
    assert f"{task},Build,completed,custom,high," in capsys.readouterr().out
    await tasks.list_tasks(settings, {"status": "failed"}, form=Form.JSON)
    assert orjson.loads(capsys.readouterr().out) == {"tasks": []}
    await tasks.report(settings, "queue")
    assert orjson.loads(capsys.readouterr().out)["completed_tasks"] == 1
    with pytest.raises(AnabranchError, match="is completed and cannot be executed"):
        await tasks.start(settings, "run", task, None, wait=False, json=False)


async def test_a_failed_task_gives_exit_code_1_and_is_retried(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [task] = await created(settings, tmp_path, capsys, {"name": "Test", "task_type": "testing"})
    assert await tasks.start(settings, "run", task, None, wait=True, json=False) == 1
    assert "error_message: two tests fail\n" in capsys.readouterr().out
    assert await tasks.start(settings, "retry", task, None, wait=True, json=True) == 1
    assert orjson.loads(capsys.readouterr().out)["execution_number"] == 2
    assert await tasks.cancel(settings, task, None, None, json=True) == 3
    assert orjson.loads(capsys.readouterr().out) == {"task_id": task, "cancelled": False}


async def test_tasks_that_wait_are_planned_changed_cancelled_and_deleted(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup, report = await created(settings, tmp_path, capsys, {"tasks": [{"name": "Setup"}, {"name": "Report"}]})
    await tasks.update(settings, report, {"depends_on": [setup]}, json=False)
    assert f"depends on    {setup}\n" in capsys.readouterr().out
    await tasks.plan(settings, json=False)
    assert capsys.readouterr().out == "phase 1: Setup\nphase 2: Report\nforecast: nothing was measured yet\n"
    await tasks.graph(settings, "mermaid")
    assert " --> " in capsys.readouterr().out
    with pytest.raises(RequestRefused, match="Circular dependency"):
        await tasks.update(settings, setup, {"depends_on": [report]}, json=False)
    with pytest.raises(RequestRefused, match="Task cannot depend on itself"):
        await tasks.update(settings, setup, {"depends_on": [setup]}, json=False)
    await tasks.assign(settings, setup, "ann", json=True)
    assert orjson.loads(capsys.readouterr().out)["assigned_to"] == "ann"
    assert await tasks.cancel(settings, setup, None, "not needed", json=False) == 0
    await tasks.show_task(settings, report, json=True)
    assert "was cancelled" in orjson.loads(capsys.readouterr().out)["reason"]
    assert await tasks.delete(settings, report, json=False) == 0
    with pytest.raises(AnabranchError, match=f"there is no task {report}"):
        await tasks.show_task(settings, report, json=False)


async def test_what_cannot_be_is_refused_before_anything_is_called(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RequestRefused) as refused:
        await tasks.create(settings, written(tmp_path, {"tasks": [{"name": ""}]}), None, json=False)
    assert [each.path for each in refused.value.errors] == ["/tasks/0/name"]
    with pytest.raises(Misconfigured, match="is not the id of a task"):
        await tasks.show_task(settings, "build", json=False)
    with pytest.raises(Misconfigured, match="there is no 'done'"):
        await tasks.list_tasks(settings, {"status": "done"}, form=Form.JSON)
    with pytest.raises(Misconfigured, match="nothing is to be changed"):
        await tasks.update(settings, "build", {"name": None}, json=False)


async def test_without_a_gateway_and_a_database_tasks_say_what_to_name(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_commands(monkeypatch, running.system.client)
    with pytest.raises(Misconfigured, match="ANABRANCH_DATABASE_URL"):
        await tasks.plan(Settings(brokers="127.0.0.1:1"), json=False)
