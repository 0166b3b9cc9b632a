"""Arguments that nobody should give are refused with their name, and nothing is started."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from execution_systems import executions

from anabranch.execution import TaskExecution, TaskExecutionStatus, TaskRefused
from anabranch.sdk.agents import Registry


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workflow_params": {"inputs": {"x": object()}}}, "workflow_params: value of type object at /inputs/x"),
        ({"workflow_params": {"inputs": {"x": float("nan")}}}, "workflow_params: nan at /inputs/x"),
        ({"workflow_params": {"inputs": {"x": "\ud800"}}}, "workflow_params: text with a lone surrogate"),
        ({"workflow_params": {"inputs": [1]}}, "workflow_params: inputs must be an object, not [1]"),
        ({"workflow_params": {"agent": 5}}, "workflow_params: agent must be the name of an agent, not 5"),
        ({"workflow_params": [1]}, "workflow_params: must be an object, not [1]"),
        ({"metadata": {"x": {1}}}, "metadata: value of type set at /x"),
        ({"metadata": "text"}, "metadata: must be an object, not 'text'"),
        ({"dependencies": "abc"}, "dependencies must be a list of ids of executions, not 'abc'"),
        ({"dependencies": 5}, "dependencies must be a list of ids of executions, not 5"),
        ({"retry_delay": 1e300}, "retry_delay: "),
        ({"timeout": 1e15}, "timeout: "),
        ({"timeout": 0}, "timeout: "),
        ({"priority": "urgent?"}, "priority: 'urgent?' is not a valid TaskExecutionPriority"),
    ],
)
async def test_a_wrong_argument_is_refused_by_its_name(arguments: dict[str, Any], message: str) -> None:
    async with executions(Registry()) as system:
        (task,) = system.tasks("a")
        with pytest.raises(TaskRefused) as refused:
            await system.engine.schedule_task(task, **arguments)
        assert str(refused.value).startswith(message)
        if "dependencies" not in arguments:
            # The same argument fails each task of a batch, and a graph as a whole.
            batch = await system.engine.schedule_task_batch([task, task], **arguments)
            assert (len(batch["failed"]), batch["successful"]) == (2, [])
            params = arguments.get("workflow_params")
            given = arguments if params is None else {"workflow_params": {task: params}}
            with pytest.raises(TaskRefused):
                await system.engine.schedule_task_graph({task: []}, **given)
        assert (await system.engine.list_executions())["total_count"] == 0


@pytest.mark.parametrize(
    "page", [{"limit": -1}, {"limit": "5"}, {"limit": 10**30}, {"offset": -1}, {"limit": True}]
)
@pytest.mark.parametrize("status", [None, "running"])
async def test_a_page_out_of_range_is_refused(page: dict[str, Any], status: str | None) -> None:
    async with executions(Registry()) as system:
        with pytest.raises(TaskRefused, match=f"{next(iter(page))} must be a number from 0 to"):
            await system.engine.list_executions(status=status, **page)
        assert (await system.engine.list_executions(status=status, limit=0))["executions"] == []


async def test_one_text_is_no_list_of_tasks_and_a_hook_is_a_function() -> None:
    async with executions(Registry()) as system:
        (task,) = system.tasks("a")
        with pytest.raises(TaskRefused, match="task_ids must be a list of ids of tasks"):
            await system.engine.schedule_task_batch(task)
        for add in (system.engine.add_pre_execution_hook, system.engine.add_post_execution_hook):
            with pytest.raises(TypeError, match="a hook is a function"):
                add("no function")  # type: ignore[arg-type]


async def test_dependencies_may_be_ids_of_the_type_uuid() -> None:
    async with executions(Registry()) as system:
        a, b = system.tasks("a", "b")
        first = await system.engine.schedule_task(UUID(a))
        second = await system.engine.schedule_task(UUID(b), dependencies=(UUID(first["execution_id"]),))
        (found,) = await system.ended([second["execution_id"]])
        assert found["status"] == TaskExecutionStatus.COMPLETED
        assert found["dependencies"] == [first["execution_id"]]


async def test_a_task_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANABRANCH_EXECUTORS", "process")
    monkeypatch.setenv("ANABRANCH_EXECUTOR_COMMANDS", "*")
    async with executions() as system:
        (task,) = system.tasks("a/b {c}\n\x01 é")
        made = await system.engine.schedule_task(task, workflow_params={"inputs": {"command": ["echo", "hi"]}})
        (found,) = await system.ended([made["execution_id"]])
        assert (found["status"], found["result"]) == (TaskExecutionStatus.COMPLETED, "hi")


def test_times_without_a_zone_are_local() -> None:
    execution = TaskExecution("a", timeout=60)
    execution.update_status("running")
    execution.started_at = datetime.now(UTC).astimezone().replace(tzinfo=None)
    assert not execution.is_timed_out()
    execution.started_at -= timedelta(seconds=61)
    assert execution.is_timed_out()

    waiting = TaskExecution(task_id="a")
    assert waiting.can_execute()
    waiting.scheduled_time = datetime.now(UTC).astimezone().replace(tzinfo=None) + timedelta(hours=1)
    assert not waiting.can_execute()
