"""Statuses, priorities and types of tasks and their executions. Pure."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class TaskStatus(StrEnum):
    """The status of a task. `paused` and `retrying` are never stored: they are read from the run of a running
    task."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    RETRYING = "retrying"

    @property
    def has_ended(self) -> bool:
        return self in ENDED

    @property
    def is_underway(self) -> bool:
        """True from the start of an execution to its end."""
        return self in (TaskStatus.RUNNING, TaskStatus.PAUSED, TaskStatus.RETRYING)


DERIVED = frozenset({TaskStatus.PAUSED, TaskStatus.RETRYING})
"""Statuses that are read from the run of a running task."""
ENDED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})


class TaskPriority(IntEnum):
    """Importance of a task, from 1 to 5. `MEDIUM` is another name of `NORMAL`."""

    LOW = 1
    NORMAL = 2
    HIGH = 3
    URGENT = 4
    CRITICAL = 5
    MEDIUM = 2

    @classmethod
    def named(cls, name: str) -> TaskPriority:
        """The priority with a name, in any case. Raises ValueError if there is none."""
        return cls(name)  # type: ignore[arg-type]  # `_missing_` takes names

    @classmethod
    def _missing_(cls, value: object) -> TaskPriority | None:
        """A priority by its name: `TaskPriority("high")`."""
        if isinstance(value, str):
            return cls.__members__.get(value.strip().upper())
        return None


class TaskType(StrEnum):
    """What a task is about. The type is the capability that its agent needs."""

    CODE_ANALYSIS = "code_analysis"
    CODE_GENERATION = "code_generation"
    CODE_REVIEW = "code_review"
    TESTING = "testing"
    DEPLOYMENT = "deployment"
    MONITORING = "monitoring"
    WORKFLOW = "workflow"
    CUSTOM = "custom"


class ExecutionStatus(StrEnum):
    """The status of one execution of a task. `queued`: its start is not on the log yet."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"

    @property
    def has_ended(self) -> bool:
        return self not in (ExecutionStatus.QUEUED, ExecutionStatus.RUNNING)
