"""Models of the API's documents, which only describe them for OpenAPI: responses are not validated against them.

The models of responses allow additional fields, which readers have to ignore. The names of the classes are the
names of the schemas in the OpenAPI document.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from anabranch.core.request.models import MAX_BY, MAX_REASON

Seconds = float
"""Seconds since the epoch."""


class OpenModel(BaseModel):
    model_config = ConfigDict(extra="allow", populate_by_name=True)


class ErrorEntry(OpenModel):
    code: str
    path: str = Field(description="JSON Pointer into the document as it was sent")
    message: str
    hint: str


class ProblemDocument(OpenModel):
    """RFC 9457. `code` is stable; `errors` has all errors of an invalid request."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ErrorEntry] | None = None


class Links(OpenModel):
    self: str
    events: str
    result: str
    graph: str


class Accepted(OpenModel):
    run_id: str
    request_id: str
    session_id: str
    project: str
    status: Literal["accepted"]
    warnings: list[str]
    links: Links


class Executions(OpenModel):
    total: int
    completed: int
    failed: int
    skipped: int


class TaskCosts(OpenModel):
    group: str
    task: str
    usd: float
    tokens: int
    seconds: float
    executions: int


class RunCosts(OpenModel):
    usd: float
    tokens: int
    seconds: float
    executions: int
    tasks: list[TaskCosts]


class Outcome(OpenModel):
    """The document of `anabranch run --json`. Large values are references; `references` has their keys."""

    run_id: str | None
    request_id: str | None
    session_id: str | None
    status: Literal["completed", "failed", "cancelled", "timed_out"]
    results: dict[str, Any]
    failures: list[dict[str, Any]]
    executions: Executions
    costs: RunCosts
    warnings: list[str]
    duration_seconds: float
    references: list[str] = Field(description="Result keys whose values /results/KEY returns, page by page")


class PlanDocument(OpenModel):
    """The document of `anabranch plan --json`, with the dependencies of the tasks."""

    valid: bool
    errors: list[ErrorEntry]
    warnings: list[str]
    counts: dict[str, int]
    bytes: int
    levels: list[list[str]]
    tasks: list[dict[str, Any]]
    edges: list[tuple[int, int]] = Field(description="[from, to] by index into tasks")


class Counts(OpenModel):
    groups: int
    tasks: int
    members: int
    completed: int
    failed: int
    running: int
    share: float | None


class RunSummary(OpenModel):
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


class ViewDocument(OpenModel):
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
    alive: list[str] | None = Field(
        default=None, description="Live workers of an open run: those with a fresh heartbeat"
    )


class RunPage(OpenModel):
    runs: list[RunSummary | ViewDocument] = Field(description="Whole views with `full`")
    next_cursor: str | None


class DefinitionSummary(OpenModel):
    project: str
    name: str
    version: str
    hash: str = Field(description="SHA-256 of the content")
    description: str
    created_at: Seconds


class DefinitionDocument(DefinitionSummary):
    input_schema: dict[str, Any] | None = Field(description="JSON Schema of the context")
    request: dict[str, Any]


class DefinitionList(OpenModel):
    definitions: list[DefinitionSummary]


class DefinitionBody(OpenModel):
    name: str
    version: str | int | None = Field(default=None, description="Default: the next number")
    description: str = ""
    input_schema: dict[str, Any] | None = Field(default=None, description="JSON Schema of the context")
    request: dict[str, Any]
    project: str | None = None


class Node(OpenModel):
    id: str
    group: str
    task: str
    agent: str = Field(description="Empty for another kind of task")
    executor: str | None = Field(default=None, description="The `kind` of its agent at live workers, if known")
    program: dict[str, Any] | None = Field(default=None, description="What its agent runs, as of agents")
    kind: str = Field(default="task", description="`task`, `switch`, `loop`, `wait` or `run`")
    phase: str | None = Field(default=None, description="`finally` or `compensate`, else absent")
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
    reason: str | None = Field(default=None, description="Why it was skipped; null if it was not")
    because: str | None = None
    when: str | None = Field(default=None, description="Its condition")
    branch: dict[str, Any] | None = Field(
        default=None, description="`{switch, case, text}`: the case of a switch that it belongs to"
    )
    chosen: int | None = Field(default=None, description="Of a switch: the number of the case that it chose")
    in_loop: str | None = Field(default=None, description="The id of the loop that repeats it")
    iteration: list[int] | None = Field(default=None, description="The last iteration of its loops")
    bound: str | None = Field(default=None, description="Of a loop: what ends it")
    loop: dict[str, Any] | None = Field(
        default=None,
        description="Of a loop: `{running, ended, failed, last}`; `last` has at most 50 iterations that ended",
    )
    wait: dict[str, Any] | None = Field(default=None, description="`{kind, of, timeout}`: what it waits for")
    waits: list[dict[str, Any]] = Field(default_factory=list, description="Its open waits")
    ended_by: str | None = Field(default=None, description="What ended the wait or the loop")


class GraphDocument(OpenModel):
    run_id: str
    nodes: list[Node]
    edges: list[tuple[int, int]]
    optional: list[int] = Field(
        default_factory=list, description="Numbers of the edges whose first task may end in any way"
    )
    groups: list[dict[str, str]]


class MemberError(OpenModel):
    type: str
    message: str
    traceback: str | None = Field(
        default=None, description="Only for the first failures of a task; never in a list of members"
    )


class MemberRow(OpenModel):
    index: int | None = Field(description="From 0; null for an ordinary task")
    name: str
    status: str
    attempts: int
    worker: str | None
    started_at: Seconds | None
    ended_at: Seconds | None
    error: MemberError | None
    progress: dict[str, Any] | None
    cpu_seconds: float | None = Field(default=None, description="Processor time of the last attempt")
    peak_memory_bytes: int | None = Field(default=None, description="Peak of its worker's memory meanwhile")


class MemberPage(OpenModel):
    total: int
    members: list[MemberRow]
    next_from: int | None


class Attempt(OpenModel):
    attempt: int
    started_at: Seconds | None
    ended_at: Seconds | None
    error: MemberError | None


class MemberDocument(OpenModel):
    index: int | None
    name: str
    status: str
    variables: dict[str, Any] | None
    message: Any
    inputs: Any
    result: dict[str, Any] | None
    result_known: Literal["exact", "position"] | None = Field(
        description="Certainty of `result`; `position`: it is the item at the member's position in a merged list"
    )
    attempts_log: list[Attempt]
    logs: list[dict[str, Any]]
    logs_left_out: int = Field(description="Number of older lines that `logs` omits")


class Cell(OpenModel):
    done: int
    failed: int
    running: int


class Heatmap(OpenModel):
    total: int
    per_cell: int
    cells: list[Cell]


class ResultValue(OpenModel):
    """The whole value in `value`, or a page of a long list in `items`."""

    key: str
    bytes: int
    count: int
    value: Any = None
    from_: int | None = Field(default=None, alias="from")
    items: list[Any] | None = None
    next_from: int | None = None


class EventDocument(OpenModel):
    type: str
    time: str
    seq: int
    run_id: str


class EventPage(OpenModel):
    events: list[EventDocument]
    next_after: str | None


class LogPage(OpenModel):
    logs: list[EventDocument]
    next_after: str | None


class Controlled(OpenModel):
    run_id: str
    action: str


class OpenApproval(OpenModel):
    """A member that waits for the decision of a person."""

    run_id: str
    run_name: str | None
    project: str | None
    group: str
    task: str
    index: int | None
    since: Seconds
    until: Seconds | None
    subject: str
    body: Any = None
    options: list[str]
    form: dict[str, Any] | None = None
    assignees: list[str]
    required: int
    decisions: list[dict[str, Any]]


class Inbox(OpenModel):
    approvals: list[OpenApproval]


class ContextDocument(OpenModel):
    """The document of `anabranch context --json`."""

    session_id: str
    at: int
    last: int
    dropped: int
    versions: list[dict[str, Any]]
    state: dict[str, Any]


class ContextDifference(OpenModel):
    """The document of `anabranch context --diff --json`."""

    session_id: str
    a: int
    b: int
    differences: list[dict[str, Any]]


class Why(OpenModel):
    run_id: str
    request_id: str | None
    session_id: str | None
    status: str
    missing: list[dict[str, Any]]


class LetterLine(OpenModel):
    id: str
    state: str
    time: str
    signature: str
    code: str
    error: str
    run_id: str | None
    redrive_refused: str | None = Field(description="Why it cannot be redriven; null if it can")


class LetterPage(OpenModel):
    letters: list[LetterLine]
    next_cursor: str | None


class LetterGroups(OpenModel):
    groups: list[dict[str, Any]]
    letters: int


class DecisionDocument(OpenModel):
    refused: list[dict[str, Any]]


class AuditPage(OpenModel):
    records: list[dict[str, Any]]
    next_cursor: str | None


class SystemDocument(OpenModel):
    version: str
    prefix: str
    workers: list[dict[str, Any]]
    lag: list[dict[str, Any]]
    services: list[dict[str, Any]]


class Whoami(OpenModel):
    actor: str
    role: Literal["viewer", "submitter", "operator"]
    projects: list[str] | Literal["*"]


# --- request bodies --------------------------------------------------------------------------------


class ClosedModel(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GraphQLQuery(ClosedModel):
    query: str = Field(description="A document in the language of GraphQL queries")
    variables: dict[str, Any] | None = None
    operationName: str | None = Field(default=None, description="Which operation of a document with several")


class GraphQLResult(OpenModel):
    data: dict[str, Any] | None
    errors: list[dict[str, Any]] | None = None


class ReasonBody(ClosedModel):
    reason: str | None = Field(
        default=None, min_length=1, max_length=MAX_REASON, description="Why; shown in the run's events and status"
    )


class ControlBody(ReasonBody):
    by: str | None = Field(
        None, min_length=1, max_length=MAX_BY, description="Who; only where the gateway does not know its caller"
    )


class ForkBody(ControlBody):
    from_: str | list[str] = Field(
        default_factory=list, alias="from", description="Tasks to run again: `task` or `group/task`"
    )
    set: dict[str, Any] = Field(default_factory=dict, description="Values that replace those of the context")
    request: dict[str, Any] | None = Field(default=None, description="A request in place of that of the run")
    request_id: str | None = Field(
        None, min_length=1, max_length=255, description="Request id of the new run; sent twice, one starts"
    )


class RetryBody(ControlBody):
    request_id: str | None = Field(
        default=None, description="Request id of the new run; if it is sent twice, one run starts"
    )


class LetterChoice(ReasonBody):
    """Ids, or a signature, a run, or both."""

    ids: list[str] | None = None
    signature: str | None = None
    run: str | None = None
