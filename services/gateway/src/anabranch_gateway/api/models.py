"""The shapes of the API's documents, for its description only: answers are made elsewhere and are not put through
these. Open where a document may grow: a reader ignores fields that it does not know.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = float
"""Since the epoch."""


class Shape(BaseModel):
    model_config = ConfigDict(extra="allow", populate_by_name=True)


class ErrorEntry(Shape):
    code: str
    path: str = Field(description="JSON Pointer into the document as it was sent")
    message: str
    hint: str


class ProblemDocument(Shape):
    """RFC 9457; `code` is stable, `errors` has every reason where there are several."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ErrorEntry] | None = None


class Links(Shape):
    self: str
    events: str
    result: str
    graph: str


class Accepted(Shape):
    run_id: str
    request_id: str
    session_id: str
    project: str
    status: Literal["accepted"]
    warnings: list[str]
    links: Links


class Executions(Shape):
    total: int
    completed: int
    failed: int
    skipped: int


class Outcome(Shape):
    """The document of `anabranch run --json`; large values stay references, and `references` names their keys."""

    run_id: str | None
    request_id: str | None
    session_id: str | None
    status: Literal["completed", "failed", "cancelled", "timed_out"]
    results: dict[str, Any]
    failures: list[dict[str, Any]]
    executions: Executions
    warnings: list[str]
    duration_seconds: float
    references: list[str] = Field(description="Result keys whose values /results/KEY returns, page by page")


class PlanDocument(Shape):
    """The document of `anabranch plan --json`, and who waits for whom."""

    valid: bool
    errors: list[ErrorEntry]
    warnings: list[str]
    counts: dict[str, int]
    bytes: int
    levels: list[list[str]]
    tasks: list[dict[str, Any]]
    edges: list[tuple[int, int]] = Field(description="[from, to] by index into tasks")


class Counts(Shape):
    groups: int
    tasks: int
    members: int
    completed: int
    failed: int
    running: int
    share: float | None


class RunSummary(Shape):
    run_id: str
    request_id: str | None
    session_id: str
    project: str
    name: str | None
    labels: dict[str, str]
    status: str
    submitted_at: Seconds | None
    started_at: Seconds | None
    ended_at: Seconds | None
    paused: bool
    retry_of: str | None
    waits_for: str | None
    counts: Counts


class ViewDocument(Shape):
    run_id: str
    request_id: str | None
    session_id: str
    project: str
    name: str | None
    labels: dict[str, str]
    status: str
    groups: dict[str, Any]
    tasks_total: int | None
    waits_for: str | None = Field(description="Missing agent or worker that an open run waits for")
    share: float | None = Field(description="Completed share of the run, from 0 to 1; null if not known")
    failure_count: int
    alive: list[str] | None = Field(default=None, description="Of an open run: its workers with a fresh heartbeat")


class RunPage(Shape):
    runs: list[RunSummary | ViewDocument] = Field(description="With `full`, whole views")
    next_cursor: str | None


class Node(Shape):
    id: str
    group: str
    task: str
    agent: str
    level: int
    status: str
    expanded: bool
    members: int | None
    completed: int
    failed: int
    share: float = Field(description="Completed share of the task, from 0 to 1")
    started_at: Seconds | None
    ended_at: Seconds | None
    result_keys: list[str]


class GraphDocument(Shape):
    run_id: str
    nodes: list[Node]
    edges: list[tuple[int, int]]
    groups: list[dict[str, str]]


class MemberError(Shape):
    type: str
    message: str
    traceback: str | None = Field(
        default=None, description="Only for the first failures of a task; never in a list of members"
    )


class MemberRow(Shape):
    index: int | None = Field(description="From 0; null of an ordinary task")
    name: str
    status: str
    attempts: int
    worker: str | None
    started_at: Seconds | None
    ended_at: Seconds | None
    error: MemberError | None
    progress: dict[str, Any] | None


class MemberPage(Shape):
    total: int
    members: list[MemberRow]
    next_from: int | None


class Attempt(Shape):
    attempt: int
    started_at: Seconds | None
    ended_at: Seconds | None
    error: MemberError | None


class MemberDocument(Shape):
    index: int | None
    name: str
    status: str
    variables: dict[str, Any] | None
    message: Any
    inputs: Any
    result: dict[str, Any] | None
    result_known: Literal["exact", "position"] | None = Field(
        description="`position`: the item at the member's place of a merged list"
    )
    attempts_log: list[Attempt]
    logs: list[dict[str, Any]]
    logs_left_out: int = Field(description="Number of older lines that `logs` omits")


class Cell(Shape):
    done: int
    failed: int
    running: int


class Heatmap(Shape):
    total: int
    per_cell: int
    cells: list[Cell]


class ResultValue(Shape):
    """Whole, with `value`; or of a long list a page, with `items`."""

    key: str
    bytes: int
    count: int
    value: Any = None
    from_: int | None = Field(default=None, alias="from")
    items: list[Any] | None = None
    next_from: int | None = None


class EventDocument(Shape):
    type: str
    time: str
    seq: int
    run_id: str


class EventPage(Shape):
    events: list[EventDocument]
    next_after: str | None


class LogPage(Shape):
    logs: list[EventDocument]
    next_after: str | None


class Controlled(Shape):
    run_id: str
    action: str


class ContextDocument(Shape):
    """The document of `anabranch context --json`."""

    session_id: str
    at: int
    last: int
    dropped: int
    versions: list[dict[str, Any]]
    state: dict[str, Any]


class ContextDifference(Shape):
    """The document of `anabranch context --diff --json`."""

    session_id: str
    a: int
    b: int
    differences: list[dict[str, Any]]


class Why(Shape):
    run_id: str
    request_id: str | None
    session_id: str | None
    status: str
    missing: list[dict[str, Any]]


class LetterLine(Shape):
    id: str
    state: str
    time: str
    signature: str
    code: str
    error: str
    run_id: str | None
    redrive_refused: str | None = Field(description="Why it cannot be redriven; null if it can")


class LetterPage(Shape):
    letters: list[LetterLine]
    next_cursor: str | None


class LetterGroups(Shape):
    groups: list[dict[str, Any]]
    letters: int


class DecisionDocument(Shape):
    refused: list[dict[str, Any]]


class SubscriptionDocument(Shape):
    id: str
    kind: Literal["webhook", "channel"]
    types: list[str]
    project: str
    run_id: str | None
    session_id: str | None
    owner: str
    created_at: Seconds


class SubscriptionList(Shape):
    subscriptions: list[SubscriptionDocument]


class AuditPage(Shape):
    records: list[dict[str, Any]]
    next_cursor: str | None


class SystemDocument(Shape):
    version: str
    prefix: str
    workers: list[dict[str, Any]]
    lag: list[dict[str, Any]]
    services: list[dict[str, Any]]


class Whoami(Shape):
    actor: str
    role: Literal["viewer", "submitter", "operator"]
    projects: list[str] | Literal["*"]


# --- bodies ----------------------------------------------------------------------------------------


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RetryBody(Closed):
    request_id: str | None = Field(default=None, description="Of the new run; the same one twice starts one run")


class LetterChoice(Closed):
    """One of the three."""

    ids: list[str] | None = None
    signature: str | None = None
    run: str | None = None


class SubscriptionBody(Closed):
    kind: Literal["webhook", "channel"]
    url: str | None = Field(default=None, description="Of a webhook: where events are sent by POST")
    channel: str | None = Field(default=None, description="The Redis channel that events are forwarded to")
    types: list[str] | None = Field(
        default=None, description="Event types, `run.*` for all of a kind, which is the default"
    )
    run_id: str | None = None
    session_id: str | None = None
    project: str | None = None
