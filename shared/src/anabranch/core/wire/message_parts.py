"""Types and parts that several messages between the services share. Import them from `messages`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from anabranch.core.policies import Policy
from anabranch.core.ranges import Spans as Spans
from anabranch.core.request.fields import DependencyKind

Json = Any

Status = Literal["completed", "failed", "cancelled", "timed_out"]
StopReason = Literal["cancelled", "timed_out"]
PhaseName = Literal["compensate", "finally"]
"""The groups of a run's end, in their order."""
Mode = Literal["fast", "careful", "alone"]
"""How members run. `fast`: starts are reported in batches; `careful`: each start is recorded before the call;
`alone`: as `careful`, and beside no other suspect (a member whose chunk a worker died with)."""


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


def empty_object() -> Any:
    """The default of a field that is an object.

    A default of `{}` would be deep-copied by Python code for each message, which takes longer than the validation
    of a small message.
    """
    return Field(default_factory=dict, json_schema_extra={"default": {}})


class DefinitionRef(Message):
    """The definition that a run was admitted with."""

    name: str
    version: str
    hash: str


class Counts(Message):
    """Numbers of members by outcome."""

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
    iteration: tuple[int, ...] | None = None
    """Numbers of the iterations of the loops around the task."""

    def to_document(self) -> dict[str, Json]:
        """The failure as JSON-able values, without `traceback` and `iteration` if it has none."""
        left_out = {"iteration"} if not self.iteration else set()
        if self.traceback is None:
            left_out.add("traceback")
        return self.model_dump(mode="json", exclude=left_out)


class SkippedTask(Message):
    """A task that was skipped: its reason, and a text for people. `empty` is an expansion without members, `wait`
    the end of its wait."""

    group: str
    task: str
    reason: Literal["dependency", "condition", "branch", "empty", "wait"]
    because: str


class Need(Message):
    """A key that a task waits for, and where its value comes from."""

    key: str
    kind: DependencyKind
    optional: bool = False
    unless_failed: bool = False
    """Of an optional need of kind `task`: the task is skipped if the other one failed, or was skipped because a
    failure left it without something that it required."""


class SharedKey(Message):
    """A key with a policy, and the tasks that produce it as (group, task), in declared order."""

    policy: Policy
    producers: tuple[tuple[str, str], ...] = ()


class MemberFailed(Message):
    """A member that failed for good."""

    index: int
    error_type: str
    message: str
    attempts: int
    traceback: str | None = None
    """Traceback of the last attempt's exception; null if the worker has sent enough tracebacks for this task."""


class MemberRetry(Message):
    """A failed attempt. The next one is due after `delay` seconds; null: the worker has made it already."""

    index: int
    attempt: int
    """The attempt that failed, counted from 1."""
    delay: float | None
    error_type: str
    message: str
    traceback: str | None = None
    """See MemberFailed."""
    retrier: int | None = None
    """Number of the entry of `TaskOrder.retriers` whose budget the attempt counts against; null: of none."""
    holds_key: bool = False
    """All members that share the limit of the task wait for the delay."""


class LargeValue(Message):
    """A large value of a member, which was sent before in pages of its own."""

    index: int
    key: str
    pages: tuple[int, ...]
    """Bytes of each page."""
    items: tuple[int, ...] | None = None
    """Items of each page if the value is a list cut between items; null if it is JSON text cut anywhere."""
