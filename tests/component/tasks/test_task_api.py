"""`TaskAPI` with everything in this process: tasks run, wait, fail, are retried and cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError
from waiting import eventually_true

from anabranch import Registry, agent
from anabranch import Task as Attempt
from anabranch.tasks import (
    CircularDependencyError,
    CreateTaskRequest,
    ExecutionStatus,
    SyncTaskAPI,
    Task,
    TaskAPI,
    TaskExecutor,
    TaskNotFound,
    TaskPriority,
    TaskRefused,
    TaskStateError,
    TaskStatus,
    TaskType,
    UpdateTaskRequest,
    get_task_manager,
)

SECONDS = 20
"""Longer than anything here takes; reached only by a fault."""


@pytest.fixture
async def api() -> AsyncIterator[TaskAPI]:
    async with TaskAPI() as opened:
        yield opened


async def _echo(task: Task) -> str:
    return task.name


async def test_a_task_whose_request_is_too_large_fails_and_holds_up_no_other(api: TaskAPI) -> None:
    await api.register_agent("ann", "custom", {"code_review"}, _echo)
    large, small = [
        await api.create_task(Task(name=name, task_type=TaskType.CODE_REVIEW, execution_context={"text": text}))
        for name, text in (("large", "x" * 3_000_000), ("small", "x"))
    ]
    failed = await api.execute_task(large.id, wait=True, timeout=SECONDS)
    completed = await api.execute_task(small.id, wait=True, timeout=SECONDS)

    assert (failed.status, completed.status) == (ExecutionStatus.FAILED, ExecutionStatus.COMPLETED)
    assert "bytes, the limit is" in str(failed.error_message)


async def test_an_agent_gets_the_task_and_its_context(api: TaskAPI) -> None:
    seen: list[tuple[Task, dict[str, Any]]] = []

    def work(task: Task, context: dict[str, Any]) -> dict[str, str]:
        seen.append((task, context))
        return {"path": context["path"]}

    await api.register_agent("ann", "custom", {"code_review"}, work)
    task = await api.create_task(
        Task(
            name="Review {this}",
            task_type=TaskType.CODE_REVIEW,
            priority=TaskPriority.HIGH,
            tags={"a", "b"},
            metadata={"n": 1},
            execution_context={"path": "{not a placeholder}"},
        )
    )
    assert (task.status, task.retry_count, task.depends_on) == (TaskStatus.PENDING, 0, set())
    execution = await api.execute_task(task.id, wait=True, timeout=SECONDS)

    ((given, context),) = seen
    assert (given.id, given.name, given.priority, given.tags) == (task.id, task.name, task.priority, {"a", "b"})
    assert given.metadata == {"n": 1}
    assert context["path"] == "{not a placeholder}"
    assert context["execution_id"] == str(execution.id)
    assert (execution.status, execution.execution_number) == (ExecutionStatus.COMPLETED, 1)
    assert (execution.executor_id, execution.result) == ("ann", {"path": "{not a placeholder}"})
    assert execution.request_id == f"task/{task.id}/1"
    ended = await api.get_task(task.id)
    assert ended is not None
    assert (ended.status, ended.result) == (TaskStatus.COMPLETED, {"path": "{not a placeholder}"})
    assert ended.started_at is not None
    assert ended.completed_at is not None


async def test_dependents_run_in_order_and_by_themselves(api: TaskAPI) -> None:
    done: list[str] = []

    async def work(task: Task) -> None:
        done.append(task.name)

    await api.register_agent("ann", capabilities={"custom"}, executor=work)
    setup = Task(name="Setup")
    sides = [Task(name=f"Analysis {number}", depends_on={setup.id}) for number in (1, 2)]
    report = Task(name="Report", depends_on={each.id for each in sides})
    await api.create_tasks([report, *sides, setup])
    plan = await api.get_execution_plan()
    assert [len(phase) for phase in plan["phases"]] == [1, 2, 1]

    await api.execute_task(setup.id)
    await api.wait_for_task(report.id, SECONDS)

    assert (done[0], sorted(done[1:3]), done[3]) == ("Setup", ["Analysis 1", "Analysis 2"], "Report")


async def test_a_dependent_of_a_failed_task_goes_on_when_that_is_retried(api: TaskAPI) -> None:
    is_broken = True

    def work(task: Task) -> str:
        if is_broken:
            raise OSError("no disk")
        return "done"

    await api.register_agent("ann", capabilities={"custom"}, executor=work)
    first = await api.create_task(Task(name="first", max_retries=1))
    second = await api.create_task(Task(name="second", depends_on={first.id}))
    failed = await api.execute_task(first.id, wait=True, timeout=SECONDS)

    assert (failed.status, failed.error_message) == (ExecutionStatus.FAILED, "no disk")
    assert failed.error is not None
    assert failed.error.error_type == "OSError"
    assert 'raise OSError("no disk")' in str(failed.error.traceback)
    waiting = await api.get_task(second.id)
    assert waiting is not None
    assert (waiting.status, str(waiting.reason).split(":")[0]) == (
        TaskStatus.PENDING,
        f"Dependency task {first.id} failed",
    )

    is_broken = False
    again = await api.retry_task(first.id, wait=True, timeout=SECONDS)
    assert (again.status, again.execution_number) == (ExecutionStatus.COMPLETED, 2)
    assert (await api.wait_for_task(second.id, SECONDS)).result == "done"
    with pytest.raises(TaskStateError, match="only a failed task can be retried"):
        await api.retry_task(first.id)


async def test_retries_end(api: TaskAPI) -> None:
    async def work(task: Task) -> None:
        raise OSError("no disk")

    await api.register_agent("ann", capabilities={"custom"}, executor=work)
    task = await api.create_task(Task(name="t", max_retries=1))
    await api.execute_task(task.id, wait=True, timeout=SECONDS)
    await api.retry_task(task.id, wait=True, timeout=SECONDS)

    failed = await api.get_task(task.id)
    assert failed is not None
    assert (failed.retry_count, failed.can_retry()) == (1, False)
    with pytest.raises(TaskStateError, match="max_retries is 1"):
        await api.retry_task(task.id)


async def test_a_running_task_is_cancelled_once(api: TaskAPI) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def work(task: Task) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    await api.register_agent("ann", capabilities={"custom"}, executor=work)
    task = await api.create_task(Task(name="t"))
    await api.execute_task(task.id)
    await asyncio.wait_for(started.wait(), SECONDS)
    running = await api.get_task(task.id)
    assert running is not None
    assert running.status == TaskStatus.RUNNING

    assert await api.cancel_task_execution(task.id, "User requested")
    assert not await api.cancel_task_execution(task.id, "again")
    await asyncio.wait_for(stopped.wait(), SECONDS)
    execution = await api.get_task_execution(task.id)
    assert execution is not None
    assert (execution.status, execution.cancel_reason) == (ExecutionStatus.CANCELLED, "User requested")


async def test_a_paused_run_is_a_paused_task(api: TaskAPI) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def work(task: Task) -> None:
        started.set()
        await go.wait()

    await api.register_agent("ann", capabilities={"custom"}, executor=work)
    task = await api.create_task(Task(name="t"))
    execution = await api.execute_task(task.id)
    await asyncio.wait_for(started.wait(), SECONDS)
    run = await (await api.system.running()).client.run(execution.run_id)
    await run.pause()
    await eventually_true(lambda: _has_status(api, task, TaskStatus.PAUSED))

    assert [each.id for each in await api.list_tasks(TaskStatus.PAUSED)] == [task.id]
    assert [each.id for each in await api.list_tasks(TaskStatus.RUNNING)] == [task.id]
    assert await api.list_tasks(TaskStatus.RETRYING) == []
    await run.resume()
    await eventually_true(lambda: _has_status(api, task, TaskStatus.RUNNING))
    go.set()
    assert (await api.wait_for_task(task.id, SECONDS)).status == TaskStatus.COMPLETED


async def test_a_task_between_two_attempts_is_retrying() -> None:
    attempts: list[int] = []

    @agent("ann", capabilities=["custom"], retry={"strategy": "fixed", "delay": "1h", "max_attempts": 2})
    async def ann(attempt: Attempt) -> None:
        attempts.append(attempt.attempt)
        raise OSError("no disk")

    async with TaskAPI(agents=Registry().add(ann)) as api:
        task = await api.create_task(Task(name="t"))
        await api.execute_task(task.id)
        await eventually_true(lambda: _has_status(api, task, TaskStatus.RETRYING))

        listed = await api.list_tasks([TaskStatus.RETRYING, TaskStatus.PAUSED])
        assert [each.id for each in listed] == [task.id]
        assert attempts == [1]
        assert await api.cancel_task_execution(task.id)


async def _has_status(api: TaskAPI, task: Task, status: TaskStatus) -> bool:
    found = await api.get_task(task.id)
    return found is not None and found.status == status


async def test_unknown_tasks(api: TaskAPI) -> None:
    unknown = uuid4()

    assert await api.get_task(unknown) is None
    assert await api.get_task("no id") is None
    assert await api.get_task_execution(unknown) is None
    assert not await api.delete_task(unknown)
    assert not await api.cancel_task_execution(unknown, "reason")
    for call in (api.execute_task, api.retry_task, api.wait_for_task, api.update_task):
        with pytest.raises(TaskNotFound, match=f"there is no task {unknown}"):
            await call(unknown)


async def test_a_timeout_fails_the_task(api: TaskAPI) -> None:
    async def work(task: Task) -> None:
        await asyncio.Event().wait()

    await api.register_agent("ann", capabilities={"custom"}, executor=work)
    task = await api.create_task(Task(name="t", timeout_seconds=0.2))
    execution = await api.execute_task(task.id, wait=True, timeout=SECONDS)

    assert (execution.status, execution.error_message) == (ExecutionStatus.TIMEOUT, "Task execution timed out")
    failed = await api.get_task(task.id)
    assert failed is not None
    assert (failed.status, failed.error_message) == (TaskStatus.FAILED, "Task execution timed out")


async def test_a_task_waits_for_an_agent_and_says_for_what(api: TaskAPI) -> None:
    task = await api.create_task(Task(name="t", task_type="deployment"))
    await api.execute_task(task.id)

    async def reason() -> str:
        found = await api.get_task(task.id)
        return str(found.reason) if found is not None else ""

    async def says() -> bool:
        return "the capability 'deployment'" in await reason()

    await eventually_true(says)
    assert (await api.health_check())["status"] == "degraded"
    await api.register_agent("ann", capabilities={"deployment"}, executor=_echo)
    assert (await api.wait_for_task(task.id, SECONDS)).result == "t"
    assert (await api.health_check())["status"] == "healthy"


async def test_an_assigned_agent_takes_the_task(api: TaskAPI) -> None:
    async def other(task: Task) -> str:
        return "other"

    await api.register_agent("ann", capabilities={"custom"}, executor=_echo)
    await api.register_agent("bob", capabilities=(), executor=other)
    task = await api.create_task(Task(name="t", assigned_to="bob"))
    named = await api.create_task(Task(name="u"))

    assert (await api.execute_task(task.id, wait=True, timeout=SECONDS)).result == "other"
    assert (await api.execute_task(named.id, "bob", wait=True, timeout=SECONDS)).result == "other"


async def test_registering_twice_replaces_the_executor(api: TaskAPI) -> None:
    async def second(task: Task) -> str:
        return "second"

    await api.register_agent("ann", capabilities={"custom"}, executor=_echo)
    first_task = await api.create_task(Task(name="first"))
    assert (await api.execute_task(first_task.id, wait=True, timeout=SECONDS)).result == "first"
    await api.register_agent("ann", capabilities={"custom"}, executor=second)
    second_task = await api.create_task(Task(name="first"))
    assert (await api.execute_task(second_task.id, wait=True, timeout=SECONDS)).result == "second"
    assert [each.id for each in await api.list_agents()] == ["ann"]


async def test_an_agent_without_code_is_served_by_the_live_one_that_its_type_names(api: TaskAPI) -> None:
    await api.register_agent("reviewer", "echo", {"code_review"})
    task = await api.create_task(Task(name="t", task_type="code_review", execution_context={"value": 7}))

    execution = await api.execute_task(task.id, wait=True, timeout=SECONDS)
    assert (execution.status, execution.executor_id) == (ExecutionStatus.COMPLETED, "reviewer")


async def test_an_executor_must_take_a_task(api: TaskAPI) -> None:
    with pytest.raises(TypeError, match="must take the task and its context"):
        await api.register_agent("ann", executor=lambda: None)


async def test_the_cap_holds(api: TaskAPI) -> None:
    running = 0
    most = 0

    async def work(task: Task) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.to_thread(lambda: None)
        running -= 1

    async with TaskAPI(executor=TaskExecutor(max_concurrent_tasks=3)) as capped:
        await capped.register_agent("ann", capabilities={"custom"}, executor=work)
        tasks = await capped.create_tasks([Task(name=f"t{number}") for number in range(20)])
        for each in tasks:
            await capped.execute_task(each.id)
        await capped.wait_for_tasks([each.id for each in tasks], SECONDS)
    assert 1 <= most <= 3


async def test_tasks_are_changed_and_deleted_until_they_run(api: TaskAPI) -> None:
    task = await api.create_task(CreateTaskRequest(name="t", created_by="u"))
    changed = await api.update_task(task.id, UpdateTaskRequest(name="other"), priority="urgent")
    assert (changed.name, changed.priority, changed.created_by) == ("other", TaskPriority.URGENT, "u")
    with pytest.raises(ValidationError):
        await api.update_task(task.id, status="completed")
    with pytest.raises(ValidationError):
        await api.update_task(task.id, {"max_retries": -1})

    assert await api.delete_task(task.id)
    assert not await api.delete_task(task.id)
    assert await api.list_tasks() == []


async def test_what_has_ended_is_neither_changed_nor_deleted(api: TaskAPI) -> None:
    await api.register_agent("ann", capabilities={"custom"}, executor=_echo)
    task = await api.create_task(Task(name="t"))
    await api.execute_task(task.id, wait=True, timeout=SECONDS)

    with pytest.raises(TaskStateError, match="is completed and cannot be updated"):
        await api.update_task(task.id, name="x")
    with pytest.raises(TaskStateError, match="is completed and cannot be deleted"):
        await api.delete_task(task.id)
    with pytest.raises(TaskStateError, match="is completed and cannot be executed"):
        await api.execute_task(task.id)


async def test_wrong_dependencies_are_refused_where_they_are_named(api: TaskAPI) -> None:
    unknown = uuid4()
    with pytest.raises(TaskRefused, match=f"Dependency task {unknown} does not exist"):
        await api.create_task(Task(name="t", depends_on={unknown}))
    first = await api.create_task(Task(name="first"))
    second = await api.create_task(Task(name="second", depends_on={first.id}))
    with pytest.raises(TaskRefused, match="Task cannot depend on itself"):
        await api.add_dependency(first.id, first.id)
    with pytest.raises(CircularDependencyError, match=f"{first.id} -> {second.id} -> {first.id}"):
        await api.add_dependency(first.id, second.id)
    with pytest.raises(TaskStateError, match="1 of its dependencies have not completed"):
        await api.execute_task(second.id)


async def test_a_deadline_in_the_past_starts_all_the_same(api: TaskAPI) -> None:
    await api.register_agent("ann", capabilities={"custom"}, executor=_echo)
    past = datetime.now(UTC) - timedelta(days=1)
    task = await api.create_task(Task(name="t", deadline=past))

    assert (await api.execute_task(task.id, wait=True, timeout=SECONDS)).status == ExecutionStatus.COMPLETED


async def test_usage_and_log_lines_are_those_of_the_worker(api: TaskAPI) -> None:
    def work(task: Task, context: dict[str, Any]) -> None:
        context["agent_task"].log.info("half way", extra={"done": 1})

    await api.register_agent("ann", capabilities={"custom"}, executor=work)
    task = await api.create_task(Task(name="t"))
    await api.execute_task(task.id, wait=True, timeout=SECONDS)

    async def is_measured() -> bool:
        execution = await api.get_task_execution(task.id)
        return execution is not None and execution.resource_usage.memory_mb is not None and bool(execution.logs)

    await eventually_true(is_measured)
    execution = await api.get_task_execution(task.id)
    assert execution is not None
    assert [(line.message, line.fields) for line in execution.logs] == [("half way", {"done": 1})]
    usage = execution.resource_usage
    assert usage.cpu_percent is not None
    assert (usage.usd, usage.tokens) == (None, None)


async def test_projects_hold_tasks(api: TaskAPI) -> None:
    project = await api.create_project("P", "what", metadata={"a": 1})
    task = await api.create_task({"name": "t", "project_id": project.id})

    assert [each.id for each in await api.list_tasks(project_id=project.id)] == [task.id]
    assert await api.get_project(project.id) == project
    assert await api.get_project("none") is None
    assert await api.list_projects() == [project]
    with pytest.raises(TaskRefused, match="Project none does not exist"):
        await api.create_task({"name": "t", "project_id": "none"})


async def test_tasks_survive_in_a_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tasks.db"
    async with TaskAPI(database_url=url) as first:
        task = await first.create_task(Task(name="t"))
        await first.execute_task(task.id)
    # Nobody could run it; the next process has an agent.
    async with TaskAPI(database_url=url) as second:
        await second.register_agent("ann", capabilities={"custom"}, executor=_echo)
        assert (await second.wait_for_task(task.id, SECONDS)).result == "t"


def test_the_same_without_an_event_loop() -> None:
    def work(task: Task) -> str:
        return task.name

    with SyncTaskAPI() as api:
        api.register_agent("ann", capabilities={"custom"}, executor=work)
        task = api.create_task({"name": "t"})
        assert api.execute_task(task.id, wait=True, timeout=SECONDS).result == "t"
        assert api.get_system_metrics()["concurrent_tasks"] == 0
        assert [each.id for each in api.list_tasks(TaskStatus.COMPLETED)] == [task.id]


async def test_the_task_manager_of_the_process_works_within_an_event_loop() -> None:
    manager = get_task_manager()
    assert get_task_manager() is manager
    project = manager.create_project("P", "what")
    first = manager.create_task("first", "what", project.id, TaskPriority.MEDIUM)
    second = manager.create_task("second", project_id=project.id, depends_on={first.id})

    assert {each.id for each in manager.list_tasks(project.id)} == {first.id, second.id}
    assert manager.update_task(second.id, name="other").name == "other"
    with pytest.raises(CircularDependencyError):
        manager.add_dependency(first.id, second.id)
    async with TaskAPI(system=manager.system) as api:
        await api.register_agent("ann", capabilities={"custom"}, executor=_echo)
        await api.execute_task(first.id)
        assert (await api.wait_for_task(second.id, SECONDS)).result == "other"
