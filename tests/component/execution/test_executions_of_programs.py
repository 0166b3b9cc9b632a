"""Executions that run programs: the executor is chosen by what is configured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from execution_systems import executions

from anabranch.core.errors import Misconfigured
from anabranch.execution import TaskExecutionStatus, TaskRefused
from anabranch.sdk.agents import Registry


@pytest.fixture
def _runs_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANABRANCH_EXECUTORS", "process")
    monkeypatch.setenv("ANABRANCH_EXECUTOR_COMMANDS", "*")


@pytest.mark.usefixtures("_runs_processes")
async def test_a_process_runs_the_command_and_its_last_line_is_the_result() -> None:
    code = "import json, os; print('{not a placeholder}'); print(json.load(open(os.environ['ANABRANCH_INPUT'])))"
    command = [sys.executable, "-c", code]
    async with executions() as system:
        (task,) = system.tasks("greet")
        made = await system.engine.schedule_task(
            task, workflow_params={"inputs": {"command": command, "name": "{x}"}}
        )
        (found,) = await system.ended([made["execution_id"]])
        assert (found["status"], found["result"]) == (TaskExecutionStatus.COMPLETED, "{'name': '{x}'}")
        assert found["executor"] == "process"


@pytest.mark.usefixtures("_runs_processes")
async def test_a_process_refuses_an_image_unless_it_is_told_to_ignore_it() -> None:
    inputs = {"container_image": "python:3.9-slim", "command": [sys.executable, "-c", "print('Hello, world!')"]}
    async with executions() as system:
        (task,) = system.tasks("greet")
        refused = await system.engine.schedule_task(task, workflow_params={"inputs": inputs})
        ignored = await system.engine.schedule_task(
            task, workflow_params={"inputs": {**inputs, "ignore_image": True}}
        )
        first, second = await system.ended([refused["execution_id"], ignored["execution_id"]])
        assert first["status"] == TaskExecutionStatus.FAILED
        assert first["error"].startswith("the executor `process` runs no image, and 'python:3.9-slim' is named")
        assert (second["status"], second["result"]) == (TaskExecutionStatus.COMPLETED, "Hello, world!")


@pytest.mark.usefixtures("_runs_processes")
async def test_a_command_that_exits_otherwise_fails_with_its_last_lines() -> None:
    command = [sys.executable, "-c", "import sys; print('no disk'); sys.exit(3)"]
    async with executions() as system:
        (task,) = system.tasks("greet")
        made = await system.engine.schedule_task(
            task, workflow_params={"inputs": {"command": command}}, retry_strategy="none"
        )
        (found,) = await system.ended([made["execution_id"]])
        assert (found["status"], found["retry_count"]) == (TaskExecutionStatus.FAILED, 0)
        assert "no disk" in found["error"]


async def test_templates_are_types_of_workflows(tmp_path: Path) -> None:
    (tmp_path / "greet.yaml").write_text(
        "task_groups:\n- name: greet\n  tasks:\n"
        "  - {name: greeting, agent: echo, message_template: 'Hello, {name}'}\n"
    )
    (tmp_path / "notes.txt").write_text("no template")
    async with executions(Registry.builtin(), templates_dir=tmp_path) as system:
        (task,) = system.tasks("greet")
        made = await system.engine.schedule_task(
            task, workflow_type="greet", workflow_params={"inputs": {"name": "world"}}
        )
        (found,) = await system.ended([made["execution_id"]])
        assert found["result"] == {"greeting": "Hello, world"}
        with pytest.raises(TaskRefused, match="there are: containerized_workflow, greet"):
            await system.engine.schedule_task(task, workflow_type="notes")


async def test_a_folder_of_templates_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="is no folder"):
        async with executions(templates_dir=tmp_path / "missing"):
            pass
