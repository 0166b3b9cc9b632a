"""`anabranch executions` prints the same through a gateway and with the database of the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from embedded_commands import connect_commands
from gateways import Running, gateway
from waiting import eventually_true

from anabranch.cli.commands import executions, tasks
from anabranch.cli.render.tables import Form
from anabranch.core.errors import AnabranchError, GiveUp, Misconfigured, RequestRefused
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.agents import Registry, agent
from anabranch.sdk.task import Task

UNKNOWN = "01a22ff5-0000-7000-8000-000000000000"


@agent(name="tester", capabilities=["testing"])
def fail(task: Task) -> str:
    raise GiveUp("two tests fail")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tasks.db'}"


@pytest.fixture
async def running(url: str) -> AsyncIterator[Running]:
    async with gateway(registry=Registry().add(fail), database_url=url) as running:

        async def is_open() -> bool:
            return (await running.http.get("/v1/executions")).status_code == 200

        await eventually_true(is_open)
        yield running


@pytest.fixture(params=["direct", "through a gateway"])
def settings(
    request: pytest.FixtureRequest, running: Running, url: str, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    connect_commands(monkeypatch, running.system.client)
    return Settings(database_url=url) if request.param == "direct" else Settings(url=running.service.url)


class Commands:
    """Runs commands, with their documents as files, and reads what they print."""

    def __init__(self, settings: Settings, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.settings, self._folder, self._capsys = settings, folder, capsys

    def file(self, document: Any) -> str:
        file = self._folder / "document.json"
        file.write_bytes(orjson.dumps(document))
        return str(file)

    @property
    def printed(self) -> str:
        return self._capsys.readouterr().out

    async def tasks(self, *names: str, task_type: str = "custom") -> list[str]:
        document = {"tasks": [{"name": name, "task_type": task_type} for name in names]}
        await tasks.create(self.settings, self.file(document), "ann", json=True)
        return [each["id"] for each in orjson.loads(self.printed)["tasks"]]

    async def schedule(self, document: Any, *, wait: bool = False) -> tuple[int, Any]:
        """The exit code, and the answer."""
        code = await executions.schedule(self.settings, self.file(document), wait=wait, json=True)
        return code, orjson.loads(self.printed)


@pytest.fixture
def commands(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(settings, tmp_path, capsys)


async def test_an_execution_is_scheduled_listed_and_shown(commands: Commands) -> None:
    (task,) = await commands.tasks("Count")
    body = {"task_id": task, "workflow_params": {"inputs": {"n": 1}}}
    code, made = await commands.schedule(body, wait=True)
    assert (code, made["status"], made["result"]) == (0, "completed", {"n": 1})
    execution = made["execution_id"]

    assert await executions.schedule(commands.settings, commands.file(body), wait=False, json=False) == 0
    assert commands.printed.endswith("  pending  Count\n")
    wanted = {"status": "completed", "task_id": task, "limit": 100, "offset": 0}
    await executions.list_executions(commands.settings, wanted, form=Form.CSV)
    assert f"{execution},Count,completed,medium,0," in commands.printed
    await executions.show_execution(commands.settings, execution, json=False)
    shown = commands.printed
    assert "status          completed\n" in shown
    assert "retry_count     0\n" in shown
    assert await executions.cancel(commands.settings, execution, None, None, json=True) == 3
    assert orjson.loads(commands.printed)["message"] == "Execution already completed with status: completed"


async def test_a_graph_that_fails_gives_exit_code_1_and_cancels_what_follows(commands: Commands) -> None:
    first, last = await commands.tasks("Test", "Release", task_type="testing")
    code, made = await commands.schedule({"task_graph": {last: [first], first: []}}, wait=True)

    assert (code, made["task_order"]) == (1, [first, last])
    assert [each["status"] for each in made["executions"]] == ["failed", "cancelled"]
    assert made["executions"][0]["error"] == "two tests fail"
    await executions.stats(commands.settings, json=False)
    counts = dict(line.split() for line in commands.printed.splitlines())
    assert (counts["failed"], counts["cancelled"], counts["total"]) == ("1", "1", "2")


async def test_a_batch_says_which_tasks_were_not_scheduled(commands: Commands) -> None:
    (task,) = await commands.tasks("Count")
    code, made = await commands.schedule({"task_ids": [task, UNKNOWN]}, wait=True)

    assert code == 1
    assert [each["status"] for each in made["successful"]] == ["completed"]
    assert made["failed"] == [{"task_id": UNKNOWN, "error": f"Task {UNKNOWN} does not exist"}]


async def test_one_that_waits_for_its_time_is_cancelled(commands: Commands) -> None:
    (task,) = await commands.tasks("Later")
    _, made = await commands.schedule({"task_id": task, "scheduled_time": "2999-01-01T00:00:00Z"})
    assert made["status"] == "scheduled"
    assert await executions.cancel(commands.settings, made["execution_id"], "ann", "no", json=True) == 0
    assert orjson.loads(commands.printed)["success"] is True
    await executions.show_execution(commands.settings, made["execution_id"], json=True)
    shown = orjson.loads(commands.printed)
    assert (shown["status"], shown["reason"]) == ("cancelled", "no")


async def test_what_is_wrong_is_refused(commands: Commands) -> None:
    (task,) = await commands.tasks("Count")
    for document, message in (
        ({}, "name one of task_id, task_ids, task_graph"),
        ({"task_id": task, "task_ids": [task]}, "name one of task_id, task_ids, task_graph"),
        ({"task_id": UNKNOWN}, f"Task {UNKNOWN} does not exist"),
        ({"task_id": task, "max_retries": -1}, "max_retries"),
        ({"task_graph": {task: [task]}}, f"Graph contains cycles: {task} -> {task}"),
    ):
        with pytest.raises(RequestRefused, match=message):
            await commands.schedule(document)
    with pytest.raises(RequestRefused):
        await commands.schedule([])
    with pytest.raises(AnabranchError, match=f"there is no execution {UNKNOWN}"):
        await executions.show_execution(commands.settings, UNKNOWN, json=False)
    with pytest.raises(AnabranchError, match=f"there is no execution {UNKNOWN}"):
        await executions.cancel(commands.settings, UNKNOWN, None, None, json=False)
    with pytest.raises(Misconfigured, match="is not an id"):
        await executions.show_execution(commands.settings, "count", json=False)
    wanted = {"status": "done", "task_id": None, "limit": 100, "offset": 0}
    with pytest.raises(Misconfigured, match="there is no 'done'"):
        await executions.list_executions(commands.settings, wanted, form=Form.JSON)
