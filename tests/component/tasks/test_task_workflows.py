"""Workflows: each kind of step runs, and a workflow is paused, resumed, cancelled and restored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from waiting import eventually_true

from anabranch.core.errors import RequestRefused
from anabranch.tasks import (
    ConditionOperator,
    Task,
    TaskAPI,
    TaskType,
    Workflow,
    WorkflowBuilder,
    WorkflowCondition,
    WorkflowStatus,
    WorkflowStep,
)

SECONDS = 20
EVERY_TYPE = tuple(map(str, TaskType))


@pytest.fixture
async def api() -> AsyncIterator[TaskAPI]:
    async with TaskAPI() as opened:
        yield opened


class Recorder:
    """An executor that notes which steps ran, in the order of their ends."""

    def __init__(self, **answers: Any) -> None:
        self.names: list[str] = []
        self.contexts: dict[str, dict[str, Any]] = {}
        self._answers = answers

    async def __call__(self, task: Task, context: dict[str, Any]) -> Any:
        self.names.append(task.name)
        self.contexts[task.name] = context
        answer = self._answers.get(task.name, f"{task.name} done")
        return answer(context) if callable(answer) else answer


async def _registered(api: TaskAPI, **answers: Any) -> Recorder:
    recorder = Recorder(**answers)
    await api.register_agent("ann", "custom", EVERY_TYPE, recorder)
    return recorder


async def _result(api: TaskAPI, workflow: Workflow) -> dict[str, Any]:
    return await api.execute_workflow(workflow, wait=True, timeout=SECONDS)


def _step(name: str, **template: Any) -> WorkflowStep:
    return WorkflowStep(name=name, task_template=template)


async def test_a_task_step_has_its_template(api: TaskAPI) -> None:
    recorder = await _registered(api)
    builder = WorkflowBuilder("Build / release", created_by="ann")
    builder.add_task_step(
        "build",
        task_template={
            "name": "Build the application",
            "task_type": "code_generation",
            "metadata": {"action": "build"},
            "execution_context": {"target": "all"},
        },
    )
    result = await _result(api, builder.build())

    assert (result["status"], result["results"]) == (
        WorkflowStatus.COMPLETED,
        {"build": "Build the application done"},
    )
    assert recorder.contexts["Build the application"]["target"] == "all"


async def test_steps_run_one_after_another_and_see_earlier_results(api: TaskAPI) -> None:
    recorder = await _registered(api, first=7, second=lambda context: context["n"] + 1)
    builder = WorkflowBuilder().add_task_step("first").add_task_step("second", execution_context={"n": "{first}"})
    result = await _result(api, builder.build())

    assert recorder.names == ["first", "second"]
    assert result["results"]["second"] == 8


async def test_parallel_steps_run_at_the_same_time(api: TaskAPI) -> None:
    both = asyncio.Barrier(2)

    async def meet(task: Task) -> str:
        async with asyncio.timeout(SECONDS):
            await both.wait()
        return "met"

    await api.register_agent("ann", capabilities=EVERY_TYPE, executor=meet)
    builder = WorkflowBuilder().add_parallel_step("tests", sub_steps=[_step("unit"), _step("integration")])

    assert (await _result(api, builder.build()))["results"] == {"unit": "met", "integration": "met"}


async def test_sequential_steps_keep_their_order_within_parallel_ones(api: TaskAPI) -> None:
    recorder = await _registered(api)
    row = {
        "name": "row",
        "step_type": "sequential",
        "sub_steps": [_step("deploy"), _step("verify"), _step("notify")],
    }
    builder = WorkflowBuilder().add_parallel_step("both", sub_steps=[row, _step("other")])
    await _result(api, builder.build())

    assert [name for name in recorder.names if name != "other"] == ["deploy", "verify", "notify"]
    assert sorted(recorder.names) == ["deploy", "notify", "other", "verify"]


@pytest.mark.parametrize(("status", "ran"), [("passed", "deploy"), ("failed", "rollback")])
async def test_a_condition_chooses_the_steps(api: TaskAPI, status: str, ran: str) -> None:
    recorder = await _registered(api, test_status=status)
    condition = WorkflowCondition(field="test_status", operator=ConditionOperator.EQUALS, value="passed")
    builder = WorkflowBuilder().add_task_step("test_status")
    builder.add_conditional_step("check", condition, true_steps=[_step("deploy")], false_steps=[_step("rollback")])
    result = await _result(api, builder.build())

    assert result["status"] == WorkflowStatus.COMPLETED
    assert recorder.names == ["test_status", ran]


async def test_a_loop_ends_when_its_condition_is_false(api: TaskAPI) -> None:
    counts = iter((1, 2, 3, 4, 5))
    recorder = await _registered(api, retry=lambda _: next(counts))
    condition = WorkflowCondition(field="retry_count", operator=ConditionOperator.LESS_THAN, value=3)
    builder = WorkflowBuilder(variables={"retry_count": 0})
    builder.add_loop_step(
        "retry_loop",
        loop_condition=condition,
        loop_steps=[_step("retry", result_keys=["retry_count"])],
        max_iterations=5,
    )
    result = await _result(api, builder.build())

    assert result["status"] == WorkflowStatus.COMPLETED
    assert recorder.names == ["retry"] * 3


async def test_a_loop_ends_at_its_limit(api: TaskAPI) -> None:
    recorder = await _registered(api, retry=0)
    builder = WorkflowBuilder(variables={"retry_count": 0})
    condition = WorkflowCondition(field="retry_count", operator=ConditionOperator.LESS_THAN, value=3)
    loop = [_step("retry", result_keys=["retry_count"])]
    builder.add_loop_step("retry_loop", condition, loop, max_iterations=2)

    assert (await _result(api, builder.build()))["status"] == WorkflowStatus.COMPLETED
    assert recorder.names == ["retry"] * 2


async def test_a_wait_step_waits_for_a_time(api: TaskAPI) -> None:
    recorder = await _registered(api)
    builder = WorkflowBuilder().add_wait_step("pause", wait_seconds=0.01).add_task_step("after")

    assert (await _result(api, builder.build()))["status"] == WorkflowStatus.COMPLETED
    assert recorder.names == ["after"]


async def test_a_wait_step_waits_for_a_variable(api: TaskAPI) -> None:
    recorder = await _registered(api)
    condition = WorkflowCondition(field="approved", operator=ConditionOperator.EQUALS, value=True)
    builder = WorkflowBuilder(variables={"approved": True})
    builder.add_wait_step("wait_for_approval", wait_condition=condition, timeout_seconds=SECONDS)
    builder.add_task_step("after")

    assert (await _result(api, builder.build()))["status"] == WorkflowStatus.COMPLETED
    assert recorder.names == ["after"]


async def test_a_workflow_is_paused_resumed_and_runs_once(api: TaskAPI) -> None:
    started, go = asyncio.Event(), asyncio.Event()
    names: list[str] = []

    async def work(task: Task) -> None:
        names.append(task.name)
        started.set()
        await go.wait()

    await api.register_agent("ann", capabilities=EVERY_TYPE, executor=work)
    workflow = WorkflowBuilder().add_task_step("first").add_task_step("second").build()
    await api.execute_workflow(workflow)
    await asyncio.wait_for(started.wait(), SECONDS)
    assert await api.pause_workflow(workflow.id)

    async def is_paused() -> bool:
        return (await api.get_workflow_status(workflow.id))["status"] == WorkflowStatus.PAUSED

    await eventually_true(is_paused)
    go.set()
    assert await api.resume_workflow(workflow.id)
    await api.execute_workflow(workflow)
    assert (await api.wait_for_workflow(workflow, SECONDS))["status"] == WorkflowStatus.COMPLETED
    assert names == ["first", "second"]


async def test_a_workflow_is_cancelled_once(api: TaskAPI) -> None:
    started = asyncio.Event()

    async def work(task: Task) -> None:
        started.set()
        await asyncio.Event().wait()

    await api.register_agent("ann", capabilities=EVERY_TYPE, executor=work)
    workflow = WorkflowBuilder().add_task_step("first").build()
    await api.execute_workflow(workflow)
    await asyncio.wait_for(started.wait(), SECONDS)

    assert await api.cancel_workflow(workflow.id)
    assert (await api.wait_for_workflow(workflow.id, SECONDS))["status"] == WorkflowStatus.CANCELLED
    assert not await api.cancel_workflow(workflow.id)
    assert not await api.pause_workflow(workflow.id)
    assert not await api.resume_workflow(workflow.id)


async def test_an_unknown_workflow(api: TaskAPI) -> None:
    unknown = uuid4()

    assert not await api.cancel_workflow(unknown)
    assert not await api.pause_workflow(unknown)
    assert (await api.get_workflow_status(unknown))["status"] == WorkflowStatus.PENDING


async def test_a_failed_workflow_is_restored_from_a_checkpoint(api: TaskAPI) -> None:
    is_broken = True

    def second(_: dict[str, Any]) -> str:
        if is_broken:
            raise OSError("no disk")
        return "fixed"

    recorder = await _registered(api, second=second)
    workflow = WorkflowBuilder().add_task_step("first").add_task_step("second").build()
    failed = await _result(api, workflow)
    assert failed["status"] == WorkflowStatus.FAILED
    assert failed["failures"][0]["error_type"] == "OSError"

    is_broken = False
    checkpoint = await api.create_checkpoint(workflow.id, "before second", "second")
    restored = await api.restore_from_checkpoint(checkpoint)
    client = (await api.system.running()).client
    result = await (await client.run(restored["run_id"])).result(SECONDS)

    assert (result.status, dict(result.results)) == ("completed", {"first": "first done", "second": "fixed"})
    assert recorder.names.count("first") == 1


async def test_a_workflow_without_steps_is_refused(api: TaskAPI) -> None:
    with pytest.raises(RequestRefused):
        await api.execute_workflow(Workflow(name="empty"))


@pytest.mark.parametrize(
    ("fields", "lacks"),
    [
        ({"step_type": "parallel"}, "`sub_steps`"),
        ({"step_type": "conditional"}, "a `condition`"),
        ({"step_type": "loop"}, "a `condition` and `sub_steps`"),
        ({"step_type": "wait"}, "`wait_seconds` or a condition"),
    ],
)
def test_a_step_that_lacks_something_says_what(fields: dict[str, Any], lacks: str) -> None:
    with pytest.raises(ValueError, match=lacks):
        WorkflowStep(name="s", **fields)


async def test_the_review_of_a_pull_request_ends_with_a_summary(api: TaskAPI) -> None:
    recorder = await _registered(api, summary=lambda context: [context["quality"], context["security"]])
    workflow = WorkflowBuilder.create_code_review_workflow(
        name="Review", created_by="ann", pull_request_url="https://example.com/repo/pull/123"
    )
    result = await _result(api, workflow)

    assert recorder.names[0] == "analysis"
    assert sorted(recorder.names[1:4]) == ["quality_review", "security_review", "tests"]
    assert result["results"]["summary"] == ["quality_review done", "security_review done"]
    assert recorder.contexts["tests"]["pull_request_url"] == "https://example.com/repo/pull/123"


async def test_data_is_extracted_from_each_source_and_loaded_at_the_end(api: TaskAPI) -> None:
    recorder = await _registered(api)
    workflow = WorkflowBuilder.create_data_processing_workflow(
        name="Load", created_by="ann", data_sources=["db1", "api1", "file1"]
    )
    result = await _result(api, workflow)

    assert result["status"] == WorkflowStatus.COMPLETED
    assert sorted(recorder.names[:3]) == ["extract_1", "extract_2", "extract_3"]
    assert recorder.names[3:] == ["validate", "transform", "load"]
    assert [recorder.contexts[f"extract_{n}"]["source"] for n in (1, 2, 3)] == ["db1", "api1", "file1"]
    with pytest.raises(ValueError, match="needs at least one of `data_sources`"):
        WorkflowBuilder.create_data_processing_workflow("Load", "ann", [])


@pytest.mark.parametrize("deploy", [True, False])
async def test_what_is_delivered_is_analysed_tested_and_built_before(api: TaskAPI, deploy: bool) -> None:
    recorder = await _registered(api)
    workflow = WorkflowBuilder.create_ci_cd_workflow(
        name="CI/CD", created_by="ann", repository_url="https://example.com/repo", deploy=deploy
    )
    result = await _result(api, workflow)

    assert result["status"] == WorkflowStatus.COMPLETED
    assert recorder.names[0] == "analysis"
    assert sorted(recorder.names[1:3]) == ["integration_tests", "unit_tests"]
    assert recorder.names[3:] == (["build", "deploy", "verify"] if deploy else ["build"])
