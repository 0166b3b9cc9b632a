"""The records on the results topic, and the other documents that users receive.

Public: users' consumers read these bodies. The ``ce_type`` of a record is the ``kind`` of its class; its key and
``ce_subject`` are the run id, and a repeated record has the same ``ce_id``. Field names are never changed or
removed; readers ignore unknown fields.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from anabranch.core.errors import Problem
from anabranch.core.names import reference_address, split_reference
from anabranch.core.policies import Policy
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.wire.messages import Counts, DefinitionRef, Failure, ParentLink, ScheduleLink, SkippedTask

FinalStatus = Literal["completed", "failed", "cancelled", "timed_out"]
RunStatus = Literal["scheduled", "running", "completed", "failed", "cancelled", "timed_out", "rejected"]


class ResultBody(BaseModel):
    """Fields of every body. ``session_id`` and ``run_id`` are null only if a rejected request has none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: ClassVar[str]

    request_id: str | None
    run_id: str | None
    session_id: str | None
    status: RunStatus

    def to_document(self) -> dict[str, Any]:
        """The body as JSON-able values."""
        return self.model_dump(mode="json", by_alias=True)


class RunAccepted(ResultBody):
    """The request is valid and its run has started."""

    kind: ClassVar[str] = "run.accepted"

    status: Literal["running", "scheduled"] = "running"
    """``scheduled`` until the time in ``not_before``."""
    project: str = DEFAULT_PROJECT
    name: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    accepted_at: str
    """RFC 3339, UTC."""
    deadline: str
    """RFC 3339, UTC: the time at which the run times out."""
    task_groups: int
    tasks: int
    warnings: tuple[str, ...] = ()
    not_before: str | None = None
    """RFC 3339, UTC: when a scheduled run starts."""
    retry_of: str | None = None
    """Run id of the run whose results this one takes over."""
    parent: ParentLink | None = None
    """Of a sub-run: the member of a task whose work it is."""
    definition: DefinitionRef | None = None
    """The definition that the run was admitted with."""
    forked_from: str | None = None
    """Run id of the run that this one is a fork of."""
    schedule: ScheduleLink | None = None
    """The schedule that submitted the run, and the logical time ``at`` of its firing."""

    def to_document(self) -> dict[str, Any]:
        """The body as JSON-able values, without the fields that only some runs have."""
        return _without_absent(super().to_document())


class RunRejected(ResultBody):
    """The request was refused; nothing was started. The record's key is the request id, or null."""

    kind: ClassVar[str] = "run.rejected"

    status: Literal["rejected"] = "rejected"
    errors: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()
    project: str | None = None
    """The project of the request, ``default`` if it named no valid project. Absent in older records."""

    def to_document(self) -> dict[str, Any]:
        """The body as JSON-able values, without `project` if it is not known."""
        document = super().to_document()
        if self.project is None:
            del document["project"]
        return document


class ResultPublished(ResultBody):
    """One result key has its final value; ``value`` is the value, or a reference to it."""

    kind: ClassVar[str] = "result.published"

    status: RunStatus = "running"
    group: str
    task_name: str
    result_key: str
    version: int = 1
    value: Any
    policy: Policy | None = None
    """The policy of the key in ``context_policies``; then ``group`` and ``task_name`` are those of its last
    writer."""
    writers: tuple[str, ...] | None = None
    """Of a key with a policy: the tasks that contributed, as ``group/task``, in declared order."""

    def to_document(self) -> dict[str, Any]:
        """The body as JSON-able values, without the fields of policies if the key has none."""
        document = super().to_document()
        return {name: value for name, value in document.items() if value is not None or name not in _OF_POLICIES}


def _without_absent(document: dict[str, Any]) -> dict[str, Any]:
    """A body without the fields that only some runs have."""
    return {name: value for name, value in document.items() if value is not None or name not in _OF_SOME_RUNS}


_OF_SOME_RUNS = ("not_before", "schedule", "parent", "definition", "compensation", "forked_from")
_OF_POLICIES = ("policy", "writers")


class StoppedBy(BaseModel):
    """A command that stopped a run; ``by`` and ``reason`` are null if its record does not say them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    action: Literal["cancel", "terminate"]
    by: str | None = None
    reason: str | None = None
    at: str
    """RFC 3339, UTC."""


class CostsOfTask(BaseModel):
    """What a task has used, in all of its attempts, members and iterations, with its sub-runs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    group: str
    task: str
    usd: float
    tokens: int
    seconds: float
    executions: int


class CostsOfRun(BaseModel):
    """What a run has used. ``usd`` and ``tokens`` are what its agents reported with ``task.spend``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    usd: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    """Of all attempts together, however many ran at once."""
    executions: int = 0
    """Calls of agents: each attempt is one."""
    tasks: tuple[CostsOfTask, ...] = ()
    """By task; if there are very many, those of the most expensive ones."""
    tasks_omitted: int = 0
    """The number of the other tasks."""


class RunFinal(ResultBody):
    """The outcome of a run, with its results. One for each run, possibly delivered several times."""

    status: FinalStatus
    name: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    results: dict[str, Any]
    """Result key -> value or reference; after a failure, cancellation or timeout the results so far."""
    failures: tuple[Failure, ...] = ()
    """The first failures; ``failure_count`` is the number of all."""
    failure_count: int = 0
    all_failures: Reference | None = None
    """Reference to the list of all failures, if ``failures`` is incomplete."""
    executions: Counts = Counts()
    """Numbers of members by outcome; an ordinary task counts as one."""
    accepted_at: str
    ended_at: str
    """RFC 3339, UTC."""
    duration_seconds: float
    warnings: tuple[str, ...] = ()
    retry_of: str | None = None
    """Run id of the run whose results this one took over."""
    taken_over: int = 0
    """Number of ``executions.completed`` that were taken over from that run."""
    handled_failures: int = 0
    """Failures that an ``error_key`` has as its value: they are not among ``failures``, and fail no run."""
    skipped: tuple[SkippedTask, ...] = ()
    """The first tasks that were skipped, with the reason."""
    costs: CostsOfRun = CostsOfRun()
    """What the run has used, in total and by task."""
    compensation: Literal["complete", "incomplete"] | None = None
    """Whether each compensation of a run that did not complete has completed; absent if there was none."""
    stopped_by: StoppedBy | None = None
    """The command that stopped the run, if it was cancelled or terminated by one."""
    parent: ParentLink | None = None
    """Of a sub-run: the member of a task whose work it is."""
    definition: DefinitionRef | None = None
    """The definition that the run was admitted with."""
    forked_from: str | None = None
    """Run id of the run that this one is a fork of."""
    schedule: ScheduleLink | None = None
    """The schedule that submitted the run, and the logical time ``at`` of its firing."""

    def to_document(self) -> dict[str, Any]:
        """The body as JSON-able values; failures without a traceback have no `traceback` field."""
        return _without_absent(super().to_document()) | {
            "failures": [failure.to_document() for failure in self.failures]
        }

    @property
    def ce_type(self) -> str:
        """``run.completed``, ``run.failed``, ``run.cancelled`` or ``run.timed_out``."""
        return final_kind(self.status)


class Reference(BaseModel):
    """Stands for a value over the inline limit: ``{"$anabranch": "<session>/<key>", "count", "bytes"}``.

    ``count`` is the number of items if the value is a list, else 1; ``bytes`` its size as JSON. ``run_id`` is the
    run that wrote the value, because a later run of the session may write the same key again.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    address: str = Field(alias="$anabranch")
    count: int
    bytes: int
    run_id: str | None = None

    @classmethod
    def to(cls, session_id: str, key: str, *, count: int, size: int, run_id: str | None = None) -> Reference:
        """A reference to ``key`` of a session; ``size`` in bytes."""
        address = reference_address(session_id, key)
        return cls.model_validate({"$anabranch": address, "count": count, "bytes": size, "run_id": run_id})

    @property
    def session_id(self) -> str:
        return split_reference(self.address)[0]

    @property
    def key(self) -> str:
        return split_reference(self.address)[1]

    def to_document(self) -> dict[str, Any]:
        """The document that replaces the value."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


MARK = "$anabranch"
"""Field that marks a reference. Values in the same place never have it."""
_REFERENCE_FIELDS = frozenset({MARK, "count", "bytes", "run_id"})


def has_mark(value: object) -> bool:
    """True if a value looks like a reference. Code that writes values next to references stores such a value and
    writes a reference to it instead, so only references have the mark."""
    return isinstance(value, dict) and MARK in value


def is_reference(value: object, session_id: str) -> bool:
    """True if an entry that may be a value or a reference is a reference into this session.

    Valid only for result keys in records and for the context history; see `has_mark`. Inputs, resolved values and
    values that clients SET may have any shape, so this check means nothing for them.
    """
    return (
        isinstance(value, dict)
        and isinstance(address := value.get(MARK), str)
        and address.startswith(f"{session_id}/")
        and {"count", "bytes"} <= value.keys() <= _REFERENCE_FIELDS
        and type(value["count"]) is int
        and type(value["bytes"]) is int
        and isinstance(value.get("run_id", ""), str)
    )


def reference_document(session_id: str, key: str, run_id: str, count: int, size: int) -> dict[str, Any]:
    """A reference to the stored value of `key`, which replaces the value in a record; `size` in bytes."""
    return {MARK: reference_address(session_id, key), "count": count, "bytes": size, "run_id": run_id}


class Event(BaseModel):
    """One lifecycle event, as ``run.events()`` and the events file show it. Other fields depend on the type."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    time: str
    """RFC 3339, UTC."""
    seq: int
    """From 1, in the order of the run's events."""
    run_id: str
    group: str | None = None
    task: str | None = None
    """The declared name, also for the members of an expanded task."""
    index: int | None = None
    attempt: int | None = None
    iteration: list[int] | None = None
    """The numbers of the iterations, from 0, if the task is part of loops: that of the outermost loop first."""


class ChannelMessage(BaseModel):
    """The message on a result's Redis channel, which wakes subscribers. Large values are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["result.published", "context.set"] = "result.published"
    """`context.set`: a value of the request's context, which no task produced."""
    task_name: str | None
    result_key: str
    version: int
    """Rises with each value of the key in its session."""
    run_id: str | None = None
    value: Any = None


# RunFinal refers to Reference, which is defined after it.
RunFinal.model_rebuild()

ResultRecord: TypeAlias = RunAccepted | RunRejected | ResultPublished | RunFinal

RESULT_KINDS = (
    RunAccepted.kind,
    RunRejected.kind,
    ResultPublished.kind,
    "run.completed",
    "run.failed",
    "run.cancelled",
    "run.timed_out",
)
"""Every ``ce_type`` on the results topic."""


def final_kind(status: FinalStatus) -> str:
    """The ``ce_type`` of a final record."""
    return f"run.{status}"


def final_event_id(run_id: str) -> str:
    """The ``ce_id`` of a run's final record, the same for every repetition and writer."""
    return f"{run_id}/final"


def result_event_id(run_id: str, key: str) -> str:
    """The ``ce_id`` of a ``result.published`` record."""
    return f"{run_id}/result/{key}"
