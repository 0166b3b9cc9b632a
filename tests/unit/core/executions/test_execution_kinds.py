"""Retry delays, and an execution as an object of its own."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.executions.kinds import RetryStrategy, TaskExecutionPriority, TaskExecutionStatus
from anabranch.core.request.models import RetryPolicy
from anabranch.core.retry import delay_before
from anabranch.execution import TaskExecution
from anabranch.tasks.models import utc_now


@pytest.mark.parametrize(
    ("strategy", "delays"),
    [
        (RetryStrategy.NONE, [0, 0, 0, 0, 0]),
        (RetryStrategy.IMMEDIATE, [0, 0, 0, 0, 0]),
        (RetryStrategy.FIXED_DELAY, [5, 5, 5, 5, 5]),
        (RetryStrategy.EXPONENTIAL_BACKOFF, [5, 10, 20, 40, 80]),
        (RetryStrategy.FIBONACCI_BACKOFF, [5, 5, 10, 15, 25]),
    ],
)
def test_delays(strategy: RetryStrategy, delays: list[float]) -> None:
    assert [strategy.delay(5, count) for count in range(5)] == delays


@given(
    st.sampled_from([each for each in RetryStrategy if each != RetryStrategy.NONE]),
    st.floats(0, 1000),
    st.integers(0, 700),
)
def test_delays_are_those_of_requests(strategy: RetryStrategy, delay: float, count: int) -> None:
    policy = RetryPolicy(strategy=strategy.policy, delay=delay, max_attempts=count + 2)
    assert strategy.delay(delay, count) == delay_before(policy, count + 2, 0.0)


def test_names_in_any_spelling() -> None:
    assert TaskExecutionStatus("RUNNING") is TaskExecutionStatus.RUNNING
    assert TaskExecutionPriority("HIGH") is TaskExecutionPriority.HIGH
    assert [TaskExecutionPriority(number) for number in (1, 2, 3, 4, 5)] == [
        "low",
        "medium",
        "high",
        "critical",
        "critical",
    ]
    assert (
        RetryStrategy("EXPONENTIAL_BACKOFF") is RetryStrategy("exponential") is RetryStrategy.EXPONENTIAL_BACKOFF
    )
    assert len(TaskExecutionStatus) == 10
    for kind in (TaskExecutionStatus, TaskExecutionPriority, RetryStrategy):
        with pytest.raises(ValueError, match="sideways"):
            kind("sideways")


def test_an_execution_counts_its_retries() -> None:
    execution = TaskExecution(task_id="task_123", retry_strategy=RetryStrategy.FIBONACCI_BACKOFF, max_retries=2)
    assert execution.can_execute()
    assert not execution.should_retry()
    assert not execution.is_complete()
    delays = []
    while True:
        execution.update_status(TaskExecutionStatus.RUNNING)
        assert execution.started_at is not None
        assert not execution.can_execute()
        execution.update_status(TaskExecutionStatus.FAILED)
        assert execution.completed_at is not None
        assert execution.is_complete()
        if not execution.should_retry():
            break
        before = utc_now()
        execution.prepare_for_retry()
        assert execution.next_retry_time is not None
        delays.append(round((execution.next_retry_time - before).total_seconds()))
        assert execution.status == TaskExecutionStatus.RETRYING
        assert not execution.can_execute(), "its time has not come"
    assert (delays, execution.retry_count) == ([5, 5], 2)
    assert execution.calculate_next_retry_time() is None
    assert [each["status"] for each in execution.status_history] == ["running", "failed", "retrying"] * 2 + [
        "running",
        "failed",
    ]


def test_an_execution_waits_for_its_time_and_its_dependencies() -> None:
    hour = timedelta(hours=1)
    later = TaskExecution(task_id="a", scheduled_time=utc_now() + hour)
    assert not later.can_execute()
    dependent = TaskExecution(task_id="a", dependencies=["x", "y", "x"])
    assert dependent.dependencies == ["x", "y"]
    assert not dependent.can_execute({"x"})
    assert dependent.can_execute(["y", "x", "z"])


def test_an_execution_times_out_while_it_runs() -> None:
    execution = TaskExecution(task_id="a", timeout=60)
    assert not execution.is_timed_out()
    execution.update_status(TaskExecutionStatus.RUNNING)
    assert not execution.is_timed_out()
    execution.started_at = utc_now() - timedelta(seconds=61)
    assert execution.is_timed_out()
    execution.update_status(TaskExecutionStatus.TIMEOUT)
    assert not execution.is_timed_out()
    assert execution.should_retry()
    assert not TaskExecution(task_id="a", timeout=None, started_at=execution.started_at).is_timed_out()
    failed = TaskExecution(task_id="a", status=TaskExecutionStatus.FAILED, retry_strategy=RetryStrategy.NONE)
    assert not failed.should_retry()
