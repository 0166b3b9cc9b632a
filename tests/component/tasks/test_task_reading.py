"""Makers of tasks, log lines and metrics."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from task_examples import execution

from anabranch.core.tasks.kinds import ExecutionStatus
from anabranch.tasks import (
    DependencyResolver,
    Task,
    TaskAPI,
    TaskExecutor,
    TaskFactory,
    TaskLogger,
    TaskMetrics,
    TaskPriority,
    TaskScheduler,
    TaskStatus,
    TaskType,
)


@pytest.mark.parametrize(
    ("maker", "given", "task_type"),
    [
        (
            "code_analysis",
            {"repository_url": "https://e/r", "analysis_type": "complexity"},
            TaskType.CODE_ANALYSIS,
        ),
        ("code_generation", {"prompt": "write", "language": "python"}, TaskType.CODE_GENERATION),
        ("code_review", {"pull_request_url": "https://e/r/pull/1"}, TaskType.CODE_REVIEW),
        ("testing", {"repository_url": "https://e/r", "test_command": "make test"}, TaskType.TESTING),
        ("deployment", {"environment": "staging", "version": "1"}, TaskType.DEPLOYMENT),
        ("monitoring", {"target": "https://e", "metrics": ["p95"]}, TaskType.MONITORING),
        ("workflow", {"workflow": {"steps": []}}, TaskType.WORKFLOW),
        ("custom", {}, TaskType.CUSTOM),
    ],
)
def test_there_is_a_maker_for_each_type(maker: str, given: dict[str, Any], task_type: TaskType) -> None:
    make = getattr(TaskFactory, f"create_{maker}_task")
    task = make(name="t", created_by="ann", priority=TaskPriority.HIGH, metadata={"own": 1}, **given)

    assert (task.task_type, task.created_by, task.priority) == (task_type, "ann", TaskPriority.HIGH)
    assert given.items() <= task.execution_context.items()
    assert task.metadata["own"] == 1


def test_each_stage_of_a_pipeline_depends_on_all_of_the_stage_before() -> None:
    made = TaskFactory.create_pipeline([{"name": "setup"}, [Task(name="a"), {"name": "b"}], {"name": "report"}])
    setup, a, b, report = made

    assert setup.depends_on == set()
    assert a.depends_on == b.depends_on == {setup.id}
    assert report.depends_on == {a.id, b.id}
    assert DependencyResolver(made).get_execution_phases() == [[setup.id], [a.id, b.id], [report.id]]


def test_a_batch_knows_its_size() -> None:
    made = TaskFactory.create_batch([{"name": "a", "tags": {"x"}}, Task(name="b")], created_by="ann")

    assert [each.tags for each in made] == [{"batch", "x"}, {"batch"}]
    assert {each.metadata["batch_size"] for each in made} == {2}
    assert TaskFactory.create_batch([]) == []


def test_a_task_counts_its_retries_and_sets_its_times_once() -> None:
    task = Task(name="t", max_retries=1)
    task.update_status(TaskStatus.RUNNING)
    started = task.started_at
    task.update_status(TaskStatus.RUNNING)
    task.update_status(TaskStatus.FAILED)

    assert task.started_at == started
    assert task.completed_at is not None
    assert task.can_retry()
    task.increment_retry()
    assert not task.can_retry()
    with pytest.raises(ValueError, match="Task cannot depend on itself"):
        task.add_dependency(task.id)


@pytest.mark.parametrize("fields", [{}, {"name": ""}, {"name": "t", "max_retries": -1}, {"name": "t", "nope": 1}])
def test_a_task_with_wrong_fields_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Task(**fields)


def test_the_scheduler_gives_the_most_urgent_first() -> None:
    low, high = Task(name="low", priority=TaskPriority.LOW), Task(name="high", priority=TaskPriority.CRITICAL)
    after = Task(name="after", depends_on={low.id})
    scheduler = TaskScheduler(DependencyResolver([low, after, high]))

    assert [each.name for each in scheduler.next_tasks()] == ["high", "low"]
    assert TaskExecutor(max_concurrent_tasks=20, resource_monitor_interval=1.0).max_concurrent_tasks == 20


def test_log_lines_go_to_a_file(tmp_path: Path) -> None:
    logger = TaskLogger(logger_name="tests.task_management", log_level=logging.INFO)
    handler = logger.add_file_handler(tmp_path / "logs" / "tasks.log")
    try:
        logger.log_debug("left out")
        logger.log_info("something happened", n=1)
        logger.log_error("Task execution failed", OSError("no disk"))
        logger.log_task(Task(name="t"), "created")
        logger.log_execution(execution(error_message="no disk"), "ended")
    finally:
        logger.logger.removeHandler(handler)
        handler.close()
    written = (tmp_path / "logs" / "tasks.log").read_text()

    assert "left out" not in written
    assert "something happened n=1" in written
    assert "OSError: no disk" in written
    assert "created" in written
    assert "ERROR tests.task_management ended" in written


def test_metrics_add_up_what_they_are_given() -> None:
    metrics = TaskMetrics(metrics_retention_hours=24 * 365 * 100, sample_window_minutes=5)
    metrics.record(execution(1))
    metrics.record_all([execution(1, status=ExecutionStatus.COMPLETED), execution(2)])

    summary = metrics.get_performance_report()["summary"]
    assert (summary["executions"], summary["completed"]) == (2, 1)
    with pytest.raises(ValueError, match="must be greater than 0"):
        TaskMetrics(metrics_retention_hours=0)


async def test_reports_of_a_system_without_tasks() -> None:
    async with TaskAPI() as api:
        metrics = await api.get_system_metrics()
        assert (metrics["concurrent_tasks"], metrics["tasks_per_minute"]) == (0, 0)
        assert metrics["average_duration_seconds"] == 0
        report = await api.get_performance_report()
        assert (report["agent_metrics"], report["slowest_tasks"]) == ({}, [])
        assert (await api.get_queue_statistics())["pending_tasks"] == 0
        assert await api.get_dependency_graph() == {"nodes": [], "edges": []}
        assert (await api.get_execution_plan([]))["phases"] == []
        assert (await api.health_check())["status"] == "healthy"
