"""`TaskExecution`: an execution as hooks and callers see it, and as a caller may compute with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from pydantic import ConfigDict, Field

from anabranch.core.executions.drafts import ExecutionDraft, with_zone
from anabranch.core.executions.kinds import RetryStrategy, TaskExecutionStatus
from anabranch.tasks.models import new_id, utc_now

_WAITING = frozenset({TaskExecutionStatus.PENDING, TaskExecutionStatus.SCHEDULED, TaskExecutionStatus.RETRYING})


class TaskExecution(ExecutionDraft):
    """One execution of a task: `TaskExecution(task_id=...)`. Changes of it change nothing but this object: the
    engine has its own state, in the database and on the log. Times without a zone are local.

    Attributes:
        error: the text of the error, for people.
        run_id: the run that does the work.
        status_history: `{status, time}` of each status that it has had.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    execution_id: str = Field(default_factory=lambda: str(new_id()))
    status: TaskExecutionStatus = TaskExecutionStatus.PENDING
    created_at: datetime = Field(default_factory=utc_now)
    started_at: datetime | None = None
    completed_at: datetime | None = None
    retry_count: int = 0
    next_retry_time: datetime | None = None
    result: Any = None
    error: str | None = None
    run_id: str | None = None
    status_history: list[dict[str, Any]] = Field(default_factory=list)

    def __init__(self, task_id: str | UUID | None = None, /, **fields: Any) -> None:
        super().__init__(**fields if task_id is None else {**fields, "task_id": task_id})

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Self:
        """The execution of an answer of the engine."""
        return cls.model_validate({**document, "retry_count": document.get("retry_count") or 0})

    def update_status(self, status: TaskExecutionStatus | str) -> None:
        """Set the status. `running` sets `started_at` once, an ended status sets `completed_at`."""
        self.status, now = TaskExecutionStatus(status), utc_now()
        self.status_history = [*self.status_history, {"status": self.status, "time": now.isoformat()}]
        if self.status == TaskExecutionStatus.RUNNING and self.started_at is None:
            self.started_at = now
        if self.status.has_ended:
            self.completed_at = now

    def calculate_next_retry_time(self) -> datetime | None:
        """When the next attempt begins if the present one fails now; None if there is no further one."""
        if self.retry_strategy == RetryStrategy.NONE or self.retry_count >= self.max_retries:
            return None
        return utc_now() + timedelta(seconds=self.retry_strategy.delay(self.retry_delay, self.retry_count))

    def should_retry(self) -> bool:
        """True if it failed or timed out, and its strategy and `max_retries` allow another attempt."""
        has_failed = self.status in (TaskExecutionStatus.FAILED, TaskExecutionStatus.TIMEOUT)
        return has_failed and self.retry_strategy != RetryStrategy.NONE and self.retry_count < self.max_retries

    def prepare_for_retry(self) -> None:
        """Count a retry, and wait for its time."""
        self.next_retry_time = self.calculate_next_retry_time()
        self.retry_count += 1
        self.started_at = self.completed_at = self.error = None
        self.update_status(TaskExecutionStatus.RETRYING)

    def is_timed_out(self) -> bool:
        """True if it has not ended, and started longer ago than `timeout`."""
        if self.timeout is None or self.started_at is None or self.is_complete():
            return False
        started = with_zone(self.started_at) or utc_now()
        return utc_now() > started + timedelta(seconds=self.timeout)

    def can_execute(self, completed: Collection[str | UUID] | None = None) -> bool:
        """True if it waits for nothing: neither for a time nor, where `completed` executions are given, for a
        dependency that is not among them."""
        if self.status not in _WAITING:
            return False
        done = None if completed is None else set(map(str, completed))
        if done is not None and not done.issuperset(self.dependencies):
            return False
        times = (with_zone(self.scheduled_time), with_zone(self.next_retry_time))
        return all(time is None or time <= utc_now() for time in times)

    def is_complete(self) -> bool:
        """True if it has ended, however."""
        return self.status.has_ended

    def to_dict(self) -> dict[str, Any]:
        """The execution as JSON data."""
        return self.model_dump(mode="json")
