"""The engine of a process, over the tasks of its task manager: an example, and a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import anabranch.execution.process_engine as process_engine
import anabranch.tasks.manager as manager
import anabranch.tasks.system as system
from anabranch import execution
from anabranch.core.errors import Misconfigured
from anabranch.execution import (
    RetryStrategy,
    SyncTaskExecutionEngine,
    TaskExecutionPriority,
    TaskExecutionStatus,
    TaskPriority,
    get_task_execution_engine,
    get_task_manager,
)
from anabranch.tasks.system import TaskSystem


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((process_engine, "_engines"), (manager, "_managers"), (system, "_default")):
        monkeypatch.setattr(module, name, [])


async def test_an_example() -> None:
    tasks = get_task_manager()
    project = tasks.create_project(name="Report", description="Three tasks, one after another")
    collect = tasks.create_task(name="Collect", project_id=project.id, priority=TaskPriority.HIGH)
    check = tasks.create_task(name="Check", project_id=project.id, priority=TaskPriority.MEDIUM)
    write = tasks.create_task(name="Write", project_id=project.id, priority=TaskPriority.LOW)
    engine = get_task_execution_engine()
    result = await engine.schedule_task_graph(
        task_graph={collect.id: [], check.id: [collect.id], write.id: [check.id]},
        workflow_type="containerized_workflow",
        priority=TaskExecutionPriority.HIGH,
        retry_strategy=RetryStrategy.EXPONENTIAL_BACKOFF,
        max_retries=3,
    )
    by_task = {each["task_id"]: each["execution_id"] for each in result["executions"]}
    assert list(by_task) == [collect.id, check.id, write.id]
    open_ = set(by_task.values())
    async with asyncio.timeout(60):
        while open_:
            for execution_id in list(open_):
                status = (await engine.get_execution(execution_id))["status"]
                assert status in list(TaskExecutionStatus)
                if status in (TaskExecutionStatus.COMPLETED, TaskExecutionStatus.FAILED):
                    assert f"{status}" == "completed"
                    open_.remove(execution_id)
            await asyncio.sleep(0.05)
    assert get_task_execution_engine() is engine
    await engine.shutdown()


def test_executions_go_on_after_a_restart(tmp_path: Path) -> None:
    async def first() -> str:
        engine = get_task_execution_engine(data_dir=tmp_path / "state")
        task = get_task_manager().create_task(name="Collect")
        made = await engine.schedule_task(task.id, workflow_params={"agent": "clerk"})
        await engine.shutdown()
        return str(made["execution_id"])

    execution_id = asyncio.run(first())
    with SyncTaskExecutionEngine(
        system=TaskSystem(database_url=f"sqlite:///{tmp_path}/state/{process_engine.DATABASE_FILE}")
    ) as engine:
        assert engine.get_execution(execution_id)["status"] == TaskExecutionStatus.PENDING
        assert engine.list_executions(status="pending")["total_count"] == 1
        assert engine.cancel_execution(execution_id)["success"] is True


def test_the_public_names_can_be_imported() -> None:
    assert [name for name in execution.__all__ if getattr(execution, name, None) is None] == []
    assert set(execution.__all__) <= set(dir(execution))
    with pytest.raises(AttributeError, match="has no attribute 'Dagger'"):
        _ = execution.Dagger


def test_what_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="there is no executor for Dagger"):
        get_task_execution_engine(dagger_config_path="dagger.yaml")
    get_task_manager().create_task(name="Collect")
    with pytest.raises(Misconfigured, match="has opened another database"):
        get_task_execution_engine(data_dir=tmp_path)
