"""The messages between the services: commands are imperative, facts are in the past tense, all are frozen.

Each travels as one record: a line of JSON (the header) and, after a newline, the opaque payload, if any
(see `codec`). What users see on the results and events topics is in `results` and `events`; this is the
inner protocol on `runs`, `groups` and `tasks`. A reader ignores fields that it does not know, so that a
rolling upgrade may add some.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anabranch.core.request.models import Expansion, RetryPolicy
from anabranch.core.wire.answer_messages import CheckRun as CheckRun
from anabranch.core.wire.answer_messages import FailRun as FailRun
from anabranch.core.wire.answer_messages import Fragment as Fragment
from anabranch.core.wire.answer_messages import RunOverdue as RunOverdue
from anabranch.core.wire.answer_messages import RunUnknown as RunUnknown
from anabranch.core.wire.message_parts import Counts as Counts
from anabranch.core.wire.message_parts import Failure as Failure
from anabranch.core.wire.message_parts import Json as Json
from anabranch.core.wire.message_parts import LargeValue as LargeValue
from anabranch.core.wire.message_parts import MemberFailed as MemberFailed
from anabranch.core.wire.message_parts import MemberRetry as MemberRetry
from anabranch.core.wire.message_parts import Message as Message
from anabranch.core.wire.message_parts import Mode as Mode
from anabranch.core.wire.message_parts import Need as Need
from anabranch.core.wire.message_parts import SharedKey as SharedKey
from anabranch.core.wire.message_parts import Spans as Spans
from anabranch.core.wire.message_parts import Status as Status
from anabranch.core.wire.message_parts import StopReason as StopReason

# --- either owner --------------------------------------------------------------------------------


class ClaimPartition(Message):
    """Somebody owns the partition from here on. Its offset is the owner's epoch."""

    type: Literal["claim"] = "claim"
    owner: str


class TimerDue(Message):
    """Time has reached `at` (seconds since the epoch) for a run: what was due by then happens now."""

    type: Literal["timer"] = "timer"
    run_id: str
    at: float


# --- runs: keyed by run id -----------------------------------------------------------------------


class SubmitRun(Message):
    """A valid request, re-keyed. `session_keys` were found in the session's earlier context."""

    type: Literal["submit"] = "submit"
    run_id: str
    request_id: str
    session_id: str
    body_hash: str
    request: dict[str, Json]
    session_keys: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    origin: str = ""
    """`topic/partition/offset` of the record on the requests topic."""
    traceparent: str | None = None
    retry_of: str | None = None
    """The run whose results this one takes over."""


class ControlRun(Message):
    """Somebody acts on a run from outside; which fields are set depends on the action."""

    type: Literal["control"] = "control"
    run_id: str
    action: Literal["cancel", "pause", "resume", "redrive", "dismiss", "retry"]
    reason: str = ""
    group: str | None = None
    task: str | None = None
    indexes: tuple[int, ...] | None = None
    command_id: str = ""
    new_request_id: str | None = None
    """Of a retry: the request id of the run to start."""
    origin: str = ""
    """`topic/partition/offset` of the record on the requests topic."""
    traceparent: str | None = None


class GroupResults(Message):
    """A part of a group's results that did not fit into its GroupFinished, sent before it."""

    type: Literal["group_results"] = "group_results"
    run_id: str
    group: str
    part: int
    results: dict[str, Json]
    admission: int | None = None


class GroupFinished(Message):
    """A group has ended: each of its tasks completed, failed, was skipped or was stopped."""

    type: Literal["group_finished"] = "group_finished"
    run_id: str
    group: str
    status: Status
    results: dict[str, Json]
    parts: int = 0
    """How many GroupResults came before."""
    failures: tuple[Failure, ...] = ()
    failure_count: int = 0
    failure_pages: tuple[tuple[str, int, int], ...] = ()
    """Where `failures` are not all: the pages that hold all of them, each (page, how many, bytes)."""
    counts: Counts = Counts()
    taken_over: int = 0
    """Members of `counts` whose results came from the run that is retried."""
    warnings: tuple[str, ...] = ()
    admission: int | None = None
    """Which admission of the run this is about (see OpenRun); None: the sender is of an earlier release."""


# --- groups: keyed by session id -----------------------------------------------------------------


class TaskOrder(Message):
    """One task as its owner gets it: what to wait for, what to run, what to make of the outcomes."""

    name: str
    agent: str
    needs: tuple[Need, ...] = ()
    context_keys: tuple[str, ...] = ()
    """Keys of the request's context that only its templates mention."""
    result_keys: tuple[str, ...]
    shares: dict[str, int] = {}
    """Of the result keys that have a policy: the task's number among those that produce it."""
    optional_result_keys: tuple[str, ...] = ()
    message_template: Json = None
    shared_instructions: Json = None
    inputs: Json = None
    tools: tuple[str, ...] = ()
    expansion: Expansion | None = None
    retry: RetryPolicy | None = None
    max_deliveries: int = 5
    timeout: float | None = None
    tolerated_failures: int | str = 0
    on_failure: Literal["fail", "hold"] = "fail"
    max_concurrency: int | None = None


class OpenRun(Message):
    """First record of a run for its session's owner: the context's first values, and what will follow."""

    type: Literal["open_run"] = "open_run"
    run_id: str
    request_id: str
    session_id: str
    groups: tuple[str, ...]
    context: dict[str, Json] = {}
    deadline: float
    """Seconds since the epoch."""
    traceparent: str | None = None
    retry_of: str | None = None
    """The run of this session whose results are taken over before any task starts."""
    reserved_keys: tuple[str, ...] = ()
    """The declared result keys that a derived key of `separate` could be, and must not."""
    shared: dict[str, SharedKey] = {}
    """The keys that have a policy."""
    submitted_at: float | None = None
    """When the run was admitted, in seconds since the epoch; only where keys have a policy."""
    admission: int = 0
    """Tells this run from an earlier one of the same id, of which nothing is known any more: the position of the
    record that admitted it (see `names.log_position`). It rises with each admission; 0 in an earlier release."""
    inline_limit: int | None = None
    """Settings on which decisions about the run depend: they hold for all of it, whatever is configured later."""
    member_limit: int | None = None


class StartGroup(Message):
    """A group, or part of one: `parts` records in all."""

    type: Literal["start_group"] = "start_group"
    run_id: str
    group: str
    tasks: tuple[TaskOrder, ...]
    part: int = 0
    parts: int = 1
    timeout: float | None = None
    max_concurrency: int | None = None
    admission: int | None = None
    most_chunks: int | None = None
    """Chunks of a task that may be out at once where workers have begun them; None: as many as may wait."""


class StopRun(Message):
    """Stop all that still runs of a run; what has ended stays."""

    type: Literal["stop_run"] = "stop_run"
    run_id: str
    reason: StopReason
    admission: int | None = None


class PauseRun(Message):
    """Start no further members (`paused`), or go on."""

    type: Literal["pause_run"] = "pause_run"
    run_id: str
    paused: bool
    admission: int | None = None
    cause: int = -1
    """Offset of the command on the run's partition: one that comes after a later one changes nothing."""


class ReleaseHeld(Message):
    """Somebody decides on held members: they run again (`redrive`), or count as failed (`dismiss`).

    Null stands for all: of the run, of the group, of the task. The same command id changes nothing twice.
    """

    type: Literal["release_held"] = "release_held"
    run_id: str
    action: Literal["redrive", "dismiss"]
    group: str | None = None
    task: str | None = None
    indexes: tuple[int, ...] | None = None
    command_id: str


class ValueFound(Message):
    """A value of the session that came from outside the run, as it was when first used."""

    type: Literal["value_found"] = "value_found"
    run_id: str
    key: str
    value: Json = None
    is_reference: bool | None = None
    """Whether the value is stored elsewhere, and this is its reference. Null in records of releases that did not
    say it: there a reference to a value of the run's session is one."""
    error: str | None = None
    """Why what was found there cannot be a value: the tasks that wait for it fail."""


class KeyReduced(Message):
    """The contributions to a key with a policy, some of them too large for the owner's state, were read: the value
    that they make, or where that is as large its `count` and `bytes`; or why they make none."""

    type: Literal["key_reduced"] = "key_reduced"
    run_id: str
    key: str
    value: Json = None
    count: int | None = None
    bytes: int = 0
    error: str | None = None
    writers: tuple[str, ...] = ()
    """With an error: who wrote what does not go together."""
    admission: int | None = None


class ArrayCounted(Message):
    """The arrays of an expansion that are too large for the owner's state were read: n members, or why not."""

    type: Literal["array_counted"] = "array_counted"
    run_id: str
    group: str
    task: str
    count: int = 0
    error: str | None = None
    admission: int | None = None


class MemberLog(Message):
    """A line that a member's agent logged, at INFO or above. `at`: seconds since the epoch."""

    index: int
    attempt: int
    at: float
    level: str
    message: str
    fields: dict[str, Json] = {}


class ValuePage(Message):
    """One page of a value too large for one record. Payload: the page."""

    type: Literal["value_page"] = "value_page"
    run_id: str
    group: str
    task: str
    chunk: int
    fence: int
    index: int
    key: str
    page: int


class MembersReported(Message):
    """What a worker has to tell of a chunk: who started, who ended and how. The last one says so.

    Payload: one segment for each result key, a JSON array of the values of the `completed` members in
    ascending order of index (null for a LargeValue); then, for `separate`, their identifiers likewise.
    """

    type: Literal["members"] = "members"
    run_id: str
    group: str
    task: str
    chunk: int
    fence: int
    worker: str
    started: Spans = ()
    started_at: float | None = None
    completed: Spans = ()
    items: tuple[int, ...] = ()
    """For each result key: the length of the list after concatenation (a value that is no list counts 1)."""
    large: tuple[LargeValue, ...] = ()
    failed: tuple[MemberFailed, ...] = ()
    retried: tuple[MemberRetry, ...] = ()
    restarted: tuple[tuple[int, int, float], ...] = ()
    """(index, attempt, seconds since the epoch): attempts after the first that began at this worker."""
    progress: tuple[tuple[int, float, str], ...] = ()
    """(index, fraction, note), the last of each member."""
    logs: tuple[MemberLog, ...] = ()
    """In the order in which they were logged."""
    last: bool = False
    busy: float = 0.0
    """Seconds from the chunk's first start to this report."""


class ChunkReturned(Message):
    """A worker gives the rest of a chunk back uncharged: it drains, lacks the agent, or was told to stop."""

    type: Literal["returned"] = "returned"
    run_id: str
    group: str
    task: str
    chunk: int
    fence: int
    worker: str
    reason: Literal["draining", "no_agent", "no_document", "stopped", "paused"]


class ChunkLost(Message):
    """The worker that held a chunk is gone, or met an error of its own in running it."""

    type: Literal["lost"] = "lost"
    run_id: str
    group: str
    task: str
    chunk: int
    fence: int
    worker: str
    cause: Literal["gone", "error"] = "gone"


class Nudge(Message):
    """The event manager saw no fact of a run for a while: its owner looks again at what it waits for."""

    type: Literal["nudge"] = "nudge"
    run_id: str
    silent_for: float


class TakenPage(Message):
    """One page of a large value that is taken over, before its MembersTaken. Payload: the page."""

    type: Literal["taken_page"] = "taken_page"
    run_id: str
    group: str
    task: str
    index: int
    key: str
    page: int


class MembersTaken(Message):
    """Members that completed in the run that is retried. Payload and `items` as in MembersReported."""

    type: Literal["members_taken"] = "members_taken"
    run_id: str
    group: str
    task: str
    total: int
    """Members of the task there."""
    completed: Spans
    items: tuple[int, ...] = ()
    large: tuple[LargeValue, ...] = ()
    failed: tuple[MemberFailed, ...] = ()
    """Of a task that completed: members that failed, and were tolerated."""
    unseen: tuple[str, ...] = ()
    """Dependencies without a value there: the members that are left shall not see one either."""


class RunTaken(Message):
    """All that could be taken over has been: the tasks of the run start."""

    type: Literal["run_taken"] = "run_taken"
    run_id: str
    warnings: tuple[str, ...] = ()


# --- tasks: round robin --------------------------------------------------------------------------


class Offer(Message):
    """Members that any worker may claim. Not ownership: the claim in the store is.

    Payload: the task's document (empty where it stands under `document_key`), then the slices of the
    arrays for these members (empty where the document holds them).
    """

    type: Literal["offer"] = "offer"
    run_id: str
    session_id: str
    group: str
    task: str
    agent: str
    chunk: int
    fence: int
    spans: Spans
    attempts: dict[int, int] = {}
    """Attempts already made, by index, where there were any."""
    expanded: bool = False
    concurrency: int | None = None
    """Members that may run at once, where the task bounds it."""
    document_key: str | None = None
    items_key: str | None = None
    """Where the slices of the arrays are in the store, if they are too large to travel in the offer."""
    deadline: float
    claim_ttl: float
    mode: Mode = "fast"


OnRuns = Annotated[
    SubmitRun
    | ControlRun
    | GroupResults
    | GroupFinished
    | FailRun
    | RunUnknown
    | RunOverdue
    | TimerDue
    | ClaimPartition
    | Fragment,
    Field(discriminator="type"),
]
OnGroups = Annotated[
    OpenRun
    | StartGroup
    | StopRun
    | CheckRun
    | PauseRun
    | ReleaseHeld
    | ValueFound
    | ArrayCounted
    | KeyReduced
    | ValuePage
    | TakenPage
    | MembersTaken
    | RunTaken
    | MembersReported
    | ChunkReturned
    | ChunkLost
    | Nudge
    | TimerDue
    | ClaimPartition
    | Fragment,
    Field(discriminator="type"),
]
OnTasks = Offer
