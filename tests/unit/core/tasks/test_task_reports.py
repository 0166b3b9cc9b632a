"""Reports about executions, drawings of dependencies and plans."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from task_examples import NOW, execution, id_of, task

from anabranch.core.tasks.graphs import Forecast, dependency_graph, drawn, execution_plan
from anabranch.core.tasks.kinds import ExecutionStatus, TaskStatus
from anabranch.core.tasks.models import ResourceUsage, Task, TaskExecution
from anabranch.core.tasks.reports import (
    performance_report,
    queue_statistics,
    spread_of,
    summary_of,
    system_metrics,
    total_of,
)


def _ended(
    of: Task, seconds: float, status: ExecutionStatus = ExecutionStatus.COMPLETED, **fields: Any
) -> TaskExecution:
    times = {"started_at": NOW + timedelta(seconds=2), "completed_at": NOW + timedelta(seconds=2 + seconds)}
    return execution(of=of).model_copy(update={"status": status, "executor_id": "ann", **times, **fields})


def test_percentiles_are_measured_values() -> None:
    assert spread_of(range(1, 101)) == {"count": 100, "mean": 50.5, "p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert spread_of([3.0, None])["p99"] == 3.0
    assert spread_of([]) == {"count": 0, "mean": None, "p50": None, "p95": None, "p99": None, "max": None}


def test_what_was_not_measured_is_not_zero() -> None:
    assert total_of([None, None]) is None
    assert total_of([None, 2.0]) == 2.0
    assert summary_of([_ended(task(), 1)])["usd"] is None


def test_rates_are_of_what_ended() -> None:
    found = summary_of(
        [
            _ended(task(1), 1),
            _ended(task(2), 3, ExecutionStatus.FAILED),
            _ended(task(3), 5, ExecutionStatus.TIMEOUT),
            _ended(task(4), 7, ExecutionStatus.CANCELLED),
            execution(5),
        ]
    )

    assert (found["executions"], found["failed"], found["queued"]) == (5, 1, 1)
    assert found["success_rate"] == pytest.approx(1 / 3)
    assert found["wait_seconds"]["p50"] == 2
    assert summary_of([])["success_rate"] is None


def test_a_report_is_by_agent_type_and_priority() -> None:
    tests, other = task(1, task_type="testing", priority="high"), task(2)
    cost = ResourceUsage(usd=0.5, tokens=10)
    done = [
        _ended(tests, 4, resource_usage=cost),
        _ended(other, 9, ExecutionStatus.FAILED, executor_id="bob", error_message="no disk"),
    ]
    report = performance_report(done, {str(each.id): each for each in (tests, other)}, NOW)

    assert report["report_timestamp"] == NOW.isoformat()
    assert sorted(report["agent_metrics"]) == ["ann", "bob"]
    assert report["agent_metrics"]["bob"]["success_rate"] == 0
    assert report["type_metrics"]["testing"]["usd"] == 0.5
    assert report["priority_metrics"]["high"]["tokens"] == 10
    assert [each["name"] for each in report["slowest_tasks"]] == ["task 2", "task 1"]
    (failed,) = report["most_failed_tasks"]
    assert (failed["name"], failed["failures"], failed["error_message"]) == ("task 2", 1, "no disk")
    assert report["resource_metrics"]["busy_seconds"] == 13


def test_metrics_are_of_the_last_minutes() -> None:
    counts = {TaskStatus.READY: 3, TaskStatus.COMPLETED: 1}
    found = system_metrics(counts, 2, [_ended(task(), 4)], timedelta(minutes=5), 20)

    assert (found["concurrent_tasks"], found["queued_tasks"], found["total_tasks"]) == (2, 3, 4)
    assert (found["tasks_per_minute"], found["average_duration_seconds"]) == (0.2, 4)
    assert system_metrics({}, 0, [], timedelta(minutes=5), 20)["average_duration_seconds"] == 0


def test_queue_statistics_say_what_waits_and_why() -> None:
    waiting = [task(1, priority="high", status=TaskStatus.READY), task(2, reason="waits for ann")]
    found = queue_statistics({TaskStatus.PENDING: 1}, waiting, NOW + timedelta(seconds=61), 10)

    assert (found["pending_tasks"], found["running_tasks"], found["blocked_tasks"]) == (1, 0, 1)
    assert found["waiting_by_priority"] == {"high": 1, "normal": 1}
    assert found["reasons"] == {"waits for ann": 1}
    assert found["oldest_ready_seconds"] == 60


def test_a_graph_has_an_edge_for_each_dependency_within_it() -> None:
    graph = dependency_graph([task(1), task(2, (1, 9))])

    assert [node["name"] for node in graph["nodes"]] == ["task 1", "task 2"]
    assert graph["edges"] == [{"from": str(id_of(1)), "to": str(id_of(2))}]


def test_drawings_escape_what_people_write() -> None:
    graph = dependency_graph([task(1, name='a "b" \\ <c>'), task(2, (1,), name="x]; y")])
    mermaid, dot = drawn(graph, "mermaid"), drawn(graph, "dot")

    assert mermaid.splitlines()[0] == "flowchart LR"
    assert '"a #34;b#34; #92; #60;c#62;<br/>pending"' in mermaid
    assert "  t0 --> t1" in mermaid
    assert dot.startswith("digraph tasks {")
    assert 'label="a \\"b\\" \\\\ <c>\\npending"' in dot
    assert f'"{id_of(1)}" -> "{id_of(2)}";' in dot


def test_a_plan_forecasts_from_measured_durations() -> None:
    tasks = [task(1, name="build"), task(2, (1,)), task(3, (1,)), task(4, (2, 3))]
    old = task(9, name="build")
    measured = [_ended(old, 10), _ended(task(8, name="other"), 4)]
    forecast = Forecast(measured, {str(id_of(9)): old, str(id_of(8)): task(8, name="other")})
    plan = execution_plan(tasks, forecast, 1)

    assert [[each["name"] for each in phase] for phase in plan["phases"]] == [
        ["build"],
        ["task 2", "task 3"],
        ["task 4"],
    ]
    assert plan["phases"][0][0]["forecast_seconds"] == 10
    # Others have the type of both: the lower of two medians.
    assert plan["critical_path_seconds"] == 10 + 4 + 4
    assert plan["forecast_seconds"] == 10 + 3 * 4
    assert execution_plan(tasks, forecast, 2)["forecast_seconds"] == 10 + 4 + 4
    assert len(plan["critical_path"]) == 3


def test_a_plan_without_measurements_has_no_forecast() -> None:
    plan = execution_plan([task(1), task(2, status=TaskStatus.COMPLETED)], Forecast([], {}), 5)

    assert (plan["total_tasks"], plan["forecast_seconds"], plan["unmeasured"]) == (1, None, [str(id_of(1))])
    assert execution_plan([], Forecast([], {}), 5)["phases"] == []
