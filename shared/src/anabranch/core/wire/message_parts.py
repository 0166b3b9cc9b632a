"""What messages between the services are made of: types, and parts that stand in several of them. Import them from
`messages`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from anabranch.core.policies import Policy
from anabranch.core.request.fields import DependencyKind

Json = Any
Spans = tuple[tuple[int, int], ...]
"""Disjoint ascending [start, stop) pairs of member indexes."""

Status = Literal["completed", "failed", "cancelled", "timed_out"]
StopReason = Literal["cancelled", "timed_out"]
Mode = Literal["fast", "careful", "alone"]
"""How members run: as they come; each start recorded before it; or so, and beside no other suspect."""


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Counts(Message):
    """Executions, member by member."""

    total: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            total=self.total + other.total,
            completed=self.completed + other.completed,
            failed=self.failed + other.failed,
            skipped=self.skipped + other.skipped,
        )


class Failure(Message):
    """Why a member, or a whole task (`index` null), did not complete."""

    group: str
    task: str
    index: int | None = None
    member: str = ""
    error_type: str
    message: str
    attempts: int = 0
    traceback: str | None = None
    """Traceback of the last attempt's exception; null if it has none, or if enough failures of the task have
    one."""

    def to_document(self) -> dict[str, Json]:
        """The failure as JSON-able values, without `traceback` if it has none."""
        return self.model_dump(mode="json", exclude={"traceback"} if self.traceback is None else None)


class Need(Message):
    """A key that a task waits for, as a record holds it; see `request.graph.Dependency`."""

    key: str
    kind: DependencyKind
    optional: bool = False


class SharedKey(Message):
    """A key with a policy, and the tasks that produce it as (group, task), in declared order."""

    policy: Policy
    producers: tuple[tuple[str, str], ...] = ()


class MemberFailed(Message):
    """A member that will not be tried again."""

    index: int
    error_type: str
    message: str
    attempts: int
    traceback: str | None = None
    """Traceback of the last attempt's exception; null if the worker has sent enough tracebacks for this task."""


class MemberRetry(Message):
    """A member whose next attempt is due after `delay` seconds, or was already made by the worker (null)."""

    index: int
    attempt: int
    """The attempt that failed, counted from 1."""
    delay: float | None
    error_type: str
    message: str
    traceback: str | None = None
    """As of MemberFailed."""


class LargeValue(Message):
    """A member's value that travelled before, as `pages` pages of its own."""

    index: int
    key: str
    pages: tuple[int, ...]
    """Bytes of each page."""
    items: tuple[int, ...] | None = None
    """Items of each page where the value is a list cut between items; null where it is text cut anywhere."""
