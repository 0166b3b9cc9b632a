"""Executions of tasks in one process: order, retries, times, caps, cancels, hooks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from execution_systems import Executions, executions

from anabranch import Task as Attempt
from anabranch import agent
from anabranch.execution import (
    RetryStrategy,
    TaskExecution,
    TaskExecutionPriority,
    TaskExecutionStatus,
    TaskNotFound,
    TaskRefused,
    TaskStatus,
)
from anabranch.registry import execution_service
from anabranch.sdk.agents import Registry

UNKNOWN = "01a22ff5-0000-7000-8000-000000000000"


class Gate:
    """An agent of the capability `custom` that waits until the test opens it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.begun: list[str] = []
        self.running = self.most = 0

    def registry(self) -> Registry:
        @agent("gate", capabilities=["custom"])
        async def gate(attempt: Attempt) -> str:
            self.begun.append(attempt.inputs["task"]["name"])
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self.open.wait()
            finally:
                self.running -= 1
            return f"{attempt.inputs['task']['name']} done"

        return Registry().add(gate)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def shows(system: Executions, execution_id: str, status: TaskExecutionStatus) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            found: dict[str, Any] = await system.engine.get_execution(execution_id)
            if found["status"] == status:
                return found
            await asyncio.sleep(0.02)


async def test_a_task_without_a_program_and_an_agent_completes_with_its_inputs() -> None:
    async with executions(Registry()) as system:
        (task,) = system.tasks("report")
        made = await system.engine.schedule_task(task, workflow_params={"inputs": {"param1": "value1"}})
        (found,) = await system.ended([made["execution_id"]])
        assert found["status"] == TaskExecutionStatus.COMPLETED
        assert found["result"] == {"param1": "value1"}
        assert found["run_id"] is None


async def test_the_agent_of_the_tasks_type_gets_the_inputs_and_the_task() -> None:
    @agent("reviewer", capabilities=["code_review"])
    async def reviewer(attempt: Attempt) -> Any:
        return attempt.inputs

    async with executions(Registry().add(reviewer)) as system:
        (task,) = system.tasks("a/b {context}", task_type="code_review", execution_context={"depth": 2})
        made = await system.engine.schedule_task(task, workflow_params={"inputs": {"file": "{x}"}})
        (found,) = await system.ended([made["execution_id"]])
        assert found["status"] == TaskExecutionStatus.COMPLETED
        assert found["executor"] == "reviewer"
        assert (found["result"]["file"], found["result"]["depth"]) == ("{x}", 2)
        assert found["result"]["task"]["name"] == "a/b {context}"
        assert found["result"]["task"]["execution_id"] == made["execution_id"]


async def test_a_graph_runs_in_its_order_and_the_callers_object_stays_as_it_is() -> None:
    gate = Gate()
    gate.open.set()
    async with executions(gate.registry()) as system:
        a, b, c = system.tasks("a", "b", "c")
        graph = {c: [a, b], b: [a], a: []}
        before = deepcopy(graph)
        made = await system.engine.schedule_task_graph(graph, workflow_params={b: {"inputs": {"x": 1}}})
        assert made["task_order"] == [a, b, c]
        assert graph == before
        found = await system.ended([each["execution_id"] for each in made["executions"]])
        assert {each["status"] for each in found} == {TaskExecutionStatus.COMPLETED}
        assert gate.begun == ["a", "b", "c"]
        times = [(each["started_at"], each["completed_at"]) for each in found]
        assert times[0][1] <= times[1][0]
        assert times[1][1] <= times[2][0]
        assert found[1]["workflow_params"] == {"inputs": {"x": 1}}


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"a": ["b"], "b": ["a"]}, "Graph contains cycles: a -> b -> a"),
        ({"a": ["a"]}, "Graph contains cycles: a -> a"),
        ({"a": [], "b": ["c"]}, "Dependency task c of task b is not in the graph"),
        ({"a": [], UNKNOWN: []}, f"Task {UNKNOWN} does not exist"),
        ({"a": [], "no uuid": ["a"]}, "Task no uuid does not exist"),
        ({"a": "b"}, "the dependencies of task a must be a list of task ids, not 'b'"),
    ],
)
async def test_a_wrong_graph_is_refused_whole_and_starts_nothing(graph: dict[str, Any], message: str) -> None:
    async with executions(Registry()) as system:
        a, b, c = system.tasks("a", "b", "c")
        ids = {"a": a, "b": b, "c": c}
        given = {
            ids.get(node, node): needed if isinstance(needed, str) else [ids.get(each, each) for each in needed]
            for node, needed in graph.items()
        }
        with pytest.raises(TaskRefused) as refused:
            await system.engine.schedule_task_graph(given)
        text = str(refused.value)
        for name, id in ids.items():
            text = text.replace(id, name)
        assert text == message
        assert (await system.engine.list_executions())["total_count"] == 0


async def test_an_empty_graph_has_no_executions() -> None:
    async with executions(Registry()) as system:
        assert await system.engine.schedule_task_graph({}) == {"executions": [], "task_order": []}


async def test_a_thousand_tasks_complete_in_order() -> None:
    async with executions(Registry(), max_concurrent_executions=200) as system:
        ids = system.tasks(*[f"task {number}" for number in range(1000)])
        layers = [ids[at : at + 100] for at in range(0, 1000, 100)]
        graph = {id: [] for id in layers[0]} | {
            id: before[:5] for before, layer in pairwise(layers) for id in layer
        }
        made = await system.engine.schedule_task_graph(graph)
        assert made["task_order"] == ids
        found = await system.ended([each["execution_id"] for each in made["executions"]])
        times = {each["task_id"]: (each["started_at"], each["completed_at"]) for each in found}
        assert all(times[each][1] <= times[id][0] for id, needed in graph.items() for each in needed)
        stats = await system.engine.get_execution_stats()
        assert stats["status_counts"]["completed"] == 1000
        page = await system.engine.list_executions()
        assert (len(page["executions"]), page["total_count"]) == (100, 1000)
        newest = [each["task_id"] for each in page["executions"]]
        assert newest == ids[:-101:-1]


async def test_a_batch_reports_each_task() -> None:
    async with executions(Registry()) as system:
        a, b = system.tasks("a", "b")
        made = await system.engine.schedule_task_batch([a, UNKNOWN, b], priority=TaskExecutionPriority.LOW)
        assert [each["task_id"] for each in made["successful"]] == [a, b]
        assert made["failed"] == [{"task_id": UNKNOWN, "error": f"Task {UNKNOWN} does not exist"}]
        assert await system.engine.schedule_task_batch([]) == {"successful": [], "failed": []}


async def test_executions_of_one_task_and_the_task_itself_do_not_meddle() -> None:
    async with executions(Registry()) as system:
        (task,) = system.tasks("a")
        first = await system.engine.schedule_task(task)
        second = await system.engine.schedule_task(task)
        found = await system.ended([first["execution_id"], second["execution_id"]])
        assert [each["execution_number"] for each in found] == [1, 2]
        kept = system.manager.get_task(task)
        assert kept is not None
        assert kept.status == TaskStatus.PENDING
        assert (await system.engine.list_executions(task_id=task))["total_count"] == 2


async def test_the_cap_holds_and_higher_priorities_start_first() -> None:
    gate = Gate()
    async with executions(gate.registry(), max_concurrent_executions=2) as system:
        ids = system.tasks("first", "second", "low", "critical", "medium")
        priorities = ["medium", "medium", "low", "critical", "medium"]
        made = []
        for id, priority in zip(ids, priorities, strict=True):
            made.append((await system.engine.schedule_task(id, priority=priority))["execution_id"])
            if len(made) <= 2:
                await until(lambda: len(gate.begun) == len(made))
        stats = await system.engine.get_execution_stats()
        assert stats["status_counts"]["pending"] == 3
        assert stats["active_executions"] == stats["max_concurrent_executions"] == 2
        gate.open.set()
        await system.ended(made)
        assert gate.most == 2
        assert gate.begun.index("critical") < gate.begun.index("low")


async def test_dependents_of_a_cancelled_execution_are_cancelled_with_the_reason() -> None:
    gate = Gate()
    async with executions(gate.registry()) as system:
        a, b, c, d = system.tasks("a", "b", "c", "d")
        made = await system.engine.schedule_task_graph({a: [], b: [a], c: [b]})
        first, second, third = [each["execution_id"] for each in made["executions"]]
        await until(lambda: gate.begun == ["a"])
        assert (await system.engine.get_execution(second))["reason"] == "waits for 1 of its 1 dependencies"
        assert (await system.engine.cancel_execution(first, "not needed"))["success"] is True
        found = await system.ended([first, second, third])
        assert {each["status"] for each in found} == {TaskExecutionStatus.CANCELLED}
        assert [each["reason"] for each in found] == [
            "not needed",
            f"Dependency execution {first} was cancelled",
            f"Dependency execution {second} was cancelled",
        ]
        late = await system.engine.schedule_task(d, dependencies=[first])
        assert late["status"] == TaskExecutionStatus.CANCELLED
        assert await system.engine.cancel_execution(first) == {
            "success": False,
            "execution_id": first,
            "message": "Execution already completed with status: cancelled",
        }
        await until(lambda: gate.running == 0)


async def test_what_does_not_exist_is_named() -> None:
    async with executions(Registry()) as system:
        (task,) = system.tasks("a")
        for unknown in (UNKNOWN, "no id"):
            with pytest.raises(TaskNotFound, match=unknown):
                await system.engine.get_execution(unknown)
            assert (await system.engine.cancel_execution(unknown))["success"] is False
            with pytest.raises(TaskRefused, match=f"Task {unknown} does not exist"):
                await system.engine.schedule_task(unknown)
            with pytest.raises(TaskRefused, match=f"Dependency execution {unknown} does not exist"):
                await system.engine.schedule_task(task, dependencies=[unknown])
        with pytest.raises(TaskRefused, match="'nightly' does not exist; there are: containerized_workflow"):
            await system.engine.schedule_task(task, workflow_type="nightly")
        with pytest.raises(TaskRefused, match="max_retries"):
            await system.engine.schedule_task(task, max_retries=-1)
        with pytest.raises(TaskRefused, match="timeout"):
            await system.engine.schedule_task(task, timeout=0)
        with pytest.raises(TaskRefused, match="retry_delay"):
            await system.engine.schedule_task(task, retry_delay=float("nan"))
        with pytest.raises(TaskRefused, match="sideways"):
            await system.engine.list_executions(status="sideways")


async def test_failures_are_retried_and_then_cancel_the_dependents() -> None:
    attempts: list[int] = []

    @agent("flaky", capabilities=["custom"])
    async def flaky(attempt: Attempt) -> None:
        attempts.append(attempt.attempt)
        raise ValueError("it broke")

    async with executions(Registry().add(flaky)) as system:
        a, b = system.tasks("a", "b")
        made = await system.engine.schedule_task_graph(
            {a: [], b: [a]}, retry_strategy=RetryStrategy.IMMEDIATE, max_retries=2
        )
        first, second = await system.ended([each["execution_id"] for each in made["executions"]])
        assert attempts == [1, 2, 3]
        assert first["status"] == TaskExecutionStatus.FAILED
        assert (first["error"], first["error_details"]["error_type"]) == ("it broke", "ValueError")
        assert first["retry_count"] == 2
        assert second["status"] == TaskExecutionStatus.CANCELLED
        assert second["reason"] == f"Dependency execution {first['execution_id']} failed"
        assert (await system.engine.get_execution_stats())["failed_executions"] == 1


async def test_the_retries_of_an_ended_execution_do_not_need_the_view_of_its_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The view trails the run, and expires. What the final record says stays."""

    async def no_view(*_: object) -> None:
        return None

    monkeypatch.setattr(execution_service, "load_view", no_view)

    @agent("flaky", capabilities=["custom"])
    async def flaky(attempt: Attempt) -> int:
        if attempt.attempt <= attempt.inputs["failures"]:
            raise ValueError("it broke")
        return attempt.attempt

    async with executions(Registry().add(flaky)) as system:
        found = []
        for failures in (0, 1, 2, 9):
            (task,) = system.tasks(f"{failures} failures")
            made = await system.engine.schedule_task(
                task,
                workflow_params={"inputs": {"failures": failures}},
                retry_strategy=RetryStrategy.IMMEDIATE,
                max_retries=3,
            )
            assert made["retry_count"] == 0
            [ended] = await system.ended([made["execution_id"]])
            found.append((ended["status"], ended["retry_count"]))

    assert found == [("completed", 0), ("completed", 1), ("completed", 2), ("failed", 3)]


async def test_an_execution_waits_between_attempts_as_retrying() -> None:
    @agent("flaky", capabilities=["custom"])
    async def flaky(attempt: Attempt) -> str:
        if attempt.attempt == 1:
            raise ValueError("the first attempt")
        return "the second attempt"

    async with executions(Registry().add(flaky)) as system:
        (task,) = system.tasks("a")
        made = await system.engine.schedule_task(
            task, retry_strategy=RetryStrategy.FIXED_DELAY, retry_delay=3600, timeout=7200
        )
        await shows(system, made["execution_id"], TaskExecutionStatus.RETRYING)
        listed = await system.engine.list_executions(status=TaskExecutionStatus.RETRYING)
        assert listed["total_count"] == 1
        assert (await system.engine.list_executions(status="running"))["total_count"] == 0
        assert (await system.engine.get_execution_stats())["status_counts"]["retrying"] == 1
        await system.engine.cancel_execution(made["execution_id"])


async def test_a_timeout_is_a_status_of_its_own() -> None:
    gate = Gate()
    async with executions(gate.registry()) as system:
        a, b = system.tasks("a", "b")
        first = await system.engine.schedule_task(a, timeout=0.3)
        second = await system.engine.schedule_task(b, dependencies=[first["execution_id"]])
        found = await system.ended([first["execution_id"], second["execution_id"]])
        assert [each["status"] for each in found] == [TaskExecutionStatus.TIMEOUT, TaskExecutionStatus.CANCELLED]
        assert found[0]["error"] == "Task execution timed out"
        assert found[1]["reason"] == f"Dependency execution {first['execution_id']} timed out"
        assert (await system.engine.get_execution_stats())["timed_out_executions"] == 1


async def test_scheduled_times() -> None:
    gate = Gate()
    gate.open.set()
    async with executions(gate.registry()) as system:
        later, past, naive = system.tasks("later", "past", "naive")
        now = datetime.now(UTC)
        waits = await system.engine.schedule_task(later, scheduled_time=now + timedelta(hours=1))
        assert waits["status"] == TaskExecutionStatus.SCHEDULED
        local = (now + timedelta(hours=1)).astimezone().replace(tzinfo=None)
        same = await system.engine.schedule_task(naive, scheduled_time=local)
        assert same["scheduled_time"] == waits["scheduled_time"]
        ran = await system.engine.schedule_task(past, scheduled_time=now - timedelta(days=3))
        assert ran["status"] == TaskExecutionStatus.PENDING
        await system.ended([ran["execution_id"]])
        assert gate.begun == ["past"]
        assert (await system.engine.list_executions(status="SCHEDULED"))["total_count"] == 2
        assert (await system.engine.get_execution_stats())["status_counts"]["scheduled"] == 2
        soon = await system.engine.schedule_task(past, scheduled_time=datetime.now(UTC) + timedelta(seconds=0.5))
        await system.ended([soon["execution_id"]])
        assert (await system.engine.cancel_execution(waits["execution_id"]))["success"] is True


async def test_hooks_are_called_in_their_order_and_a_failing_one_before_fails_the_execution() -> None:
    gate = Gate()
    gate.open.set()
    seen: list[str] = []

    def before(execution: TaskExecution) -> None:
        seen.append(f"before {execution.metadata['name']} {execution.status}")
        if execution.metadata["name"] == "refused":
            raise PermissionError("not this one")

    async def after(execution: TaskExecution) -> None:
        seen.append(f"after {execution.metadata['name']} {execution.status}")
        raise RuntimeError("a hook after an execution changes nothing")

    async with executions(gate.registry()) as system:
        a, b = system.tasks("a", "b")
        system.engine.add_pre_execution_hook(before)
        system.engine.add_post_execution_hook(after)
        first = await system.engine.schedule_task(a, metadata={"name": "done"})
        await system.ended([first["execution_id"]])
        await until(lambda: len(seen) == 2)
        second = await system.engine.schedule_task(b, metadata={"name": "refused"})
        (found,) = await system.ended([second["execution_id"]])
        await until(lambda: len(seen) == 4)
        assert seen == [
            "before done preparing",
            "after done completed",
            "before refused preparing",
            "after refused failed",
        ]
        assert found["error"] == "a hook before the execution failed: not this one"
        assert gate.begun == ["a"]


async def test_a_paused_run_shows_as_paused() -> None:
    gate = Gate()
    async with executions(gate.registry()) as system:
        (task,) = system.tasks("a")
        made = await system.engine.schedule_task(task)
        await shows(system, made["execution_id"], TaskExecutionStatus.RUNNING)
        run = await (await system.engine.system.running()).client.run(made["run_id"])
        await run.pause("a moment")
        await shows(system, made["execution_id"], TaskExecutionStatus.PAUSED)
        await run.resume()
        gate.open.set()
        (found,) = await system.ended([made["execution_id"]])
        assert [each["status"] for each in found["status_history"]] == [
            "pending",
            "preparing",
            "running",
            "completed",
        ]


async def test_a_named_agent_that_is_not_live_is_waited_for_with_the_reason() -> None:
    async with executions(Registry()) as system:
        (task,) = system.tasks("a")
        made = await system.engine.schedule_task(task, workflow_params={"agent": "robot"})
        program = await system.engine.schedule_task(task, workflow_params={"inputs": {"command": ["true"]}})
        reasons = []
        for each in (made, program):
            async with asyncio.timeout(30):
                while (found := await system.engine.get_execution(each["execution_id"]))["reason"] is None:
                    await asyncio.sleep(0.02)
            reasons.append(found["reason"])
        assert reasons[0] == "waits for the agent 'robot': no live worker has it"
        assert reasons[1].startswith("waits for a worker that runs programs")


async def test_a_request_as_the_workflow_gets_the_inputs_and_the_policy() -> None:
    @agent("adder")
    async def adder(attempt: Attempt) -> Any:
        if attempt.attempt == 1:
            raise ValueError("once more")
        return attempt.inputs["a"] + attempt.inputs["b"]

    group = {"name": "sums", "tasks": [{"name": "sum", "agent": "adder", "inputs": {"a": "{a}", "b": "{b}"}}]}
    async with executions(Registry().add(adder)) as system:
        (task,) = system.tasks("a")
        made = await system.engine.schedule_task(
            task,
            workflow_params={"inputs": {"a": 2, "b": 3}, "request": {"task_groups": [group]}},
            retry_strategy="immediate",
        )
        (found,) = await system.ended([made["execution_id"]])
        assert (found["status"], found["result"]) == (TaskExecutionStatus.COMPLETED, {"sum": 5})
        wrong = await system.engine.schedule_task(task, workflow_params={"request": {"task_groups": []}})
        (found,) = await system.ended([wrong["execution_id"]])
        assert found["status"] == TaskExecutionStatus.FAILED
        assert found["error_details"]["error_type"] == "RequestRefused"
