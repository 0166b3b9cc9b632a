"""Statuses and priorities of executions, and the strategies of their retries. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from anabranch.core.request.models import RetryPolicy
from anabranch.core.retry import delay_before
from anabranch.core.tasks.kinds import TaskPriority

Strategy = Literal["none", "immediate", "fixed", "exponential", "fibonacci"]


class TaskExecutionStatus(StrEnum):
    """The status of an execution.

    `scheduled`: its time is in the future. `preparing`: it has a slot, and no agent has begun. `paused` and
    `retrying` are read from its run.
    """

    PENDING = "pending"
    SCHEDULED = "scheduled"
    PREPARING = "preparing"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRYING = "retrying"
    TIMEOUT = "timeout"

    @property
    def has_ended(self) -> bool:
        return self in _ENDED

    @classmethod
    def _missing_(cls, value: object) -> TaskExecutionStatus | None:
        """A status by its name: `TaskExecutionStatus("RUNNING")`."""
        return cls.__members__.get(value.strip().upper()) if isinstance(value, str) else None


_ENDED = frozenset(
    {
        TaskExecutionStatus.COMPLETED,
        TaskExecutionStatus.FAILED,
        TaskExecutionStatus.CANCELLED,
        TaskExecutionStatus.TIMEOUT,
    }
)
UNDERWAY = frozenset(
    {
        TaskExecutionStatus.PREPARING,
        TaskExecutionStatus.RUNNING,
        TaskExecutionStatus.PAUSED,
        TaskExecutionStatus.RETRYING,
    }
)
"""The statuses of executions that hold a slot. Which one it is, their run says."""


class TaskExecutionPriority(StrEnum):
    """Importance of an execution."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def level(self) -> TaskPriority:
        """The priority as the registry and requests have it."""
        return TaskPriority[self.name]

    @classmethod
    def _missing_(cls, value: object) -> TaskExecutionPriority | None:
        """A priority by its name, or that of a task."""
        if isinstance(value, int) and not isinstance(value, bool) and value in (1, 2, 3, 4, 5):
            return (cls.LOW, cls.MEDIUM, cls.HIGH, cls.CRITICAL, cls.CRITICAL)[value - 1]
        return cls.__members__.get(value.strip().upper()) if isinstance(value, str) else None


class RetryStrategy(StrEnum):
    """When a failed attempt is made again.

    Before attempt k+1: immediate 0, fixed d, exponential d·2^(k-1), fibonacci d·fib(k), so d, d, 2d, 3d.
    """

    NONE = "none"
    IMMEDIATE = "immediate"
    FIXED_DELAY = "fixed_delay"
    EXPONENTIAL_BACKOFF = "exponential_backoff"
    FIBONACCI_BACKOFF = "fibonacci_backoff"

    @property
    def policy(self) -> Strategy:
        """The strategy as retry policies of requests name it."""
        return _POLICY[self]

    def delay(self, retry_delay: float, retry_count: int) -> float:
        """Seconds from a failure to the next attempt, after so many retries; 0 under `none`."""
        # The strategy "none" has no delay. Of the others no bound matters here.
        found = delay_before(_unbounded(self.policy, retry_delay, retry_count + 2), retry_count + 2, 0.0)
        return 0.0 if found is None else found

    @classmethod
    def _missing_(cls, value: object) -> RetryStrategy | None:
        """A strategy by its name, or as requests spell it."""
        if not isinstance(value, str):
            return None
        name = value.strip()
        by_policy = next((each for each, policy in _POLICY.items() if policy == name.lower()), None)
        return cls.__members__.get(name.upper(), by_policy)


_POLICY: dict[RetryStrategy, Strategy] = {
    RetryStrategy.NONE: "none",
    RetryStrategy.IMMEDIATE: "immediate",
    RetryStrategy.FIXED_DELAY: "fixed",
    RetryStrategy.EXPONENTIAL_BACKOFF: "exponential",
    RetryStrategy.FIBONACCI_BACKOFF: "fibonacci",
}


def _unbounded(strategy: Strategy, delay: float, attempts: int) -> RetryPolicy:
    return RetryPolicy(strategy=strategy, delay=delay, max_attempts=attempts)
