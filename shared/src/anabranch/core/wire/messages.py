"""The messages between the services: commands are imperative, facts in the past tense, all are frozen. Pure.

A message is one record: a header line of JSON and, after a newline, an opaque payload (see `codec`). This is the
internal protocol on `runs`, `groups` and `tasks`; the public records are in `results` and `events`. Readers ignore
unknown fields, so that a rolling upgrade can add fields.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anabranch.core.costs import TaskCosts
from anabranch.core.lanes import DEFAULT_POOL, DEFAULT_PRIORITY, Priority
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.budget_fields import Limit
from anabranch.core.request.configured_limits import RunLimitSet
from anabranch.core.wire.answer_messages import CheckRun as CheckRun
from anabranch.core.wire.answer_messages import FailRun as FailRun
from anabranch.core.wire.answer_messages import Fragment as Fragment
from anabranch.core.wire.answer_messages import PhaseBegan as PhaseBegan
from anabranch.core.wire.answer_messages import RunOverdue as RunOverdue
from anabranch.core.wire.answer_messages import RunUnknown as RunUnknown
from anabranch.core.wire.cache_messages import CacheHit as CacheHit
from anabranch.core.wire.cache_messages import CacheLooked as CacheLooked
from anabranch.core.wire.cache_messages import CacheOrigin as CacheOrigin
from anabranch.core.wire.child_messages import ChildEnded as ChildEnded
from anabranch.core.wire.child_messages import ChildStarted as ChildStarted
from anabranch.core.wire.child_messages import ChildValue as ChildValue
from anabranch.core.wire.child_messages import ControlChild as ControlChild
from anabranch.core.wire.child_messages import Inherited as Inherited
from anabranch.core.wire.child_messages import ParentLink as ParentLink
from anabranch.core.wire.child_messages import SubmitChild as SubmitChild
from anabranch.core.wire.condition_messages import ConditionJudged as ConditionJudged
from anabranch.core.wire.control_message import ControlRun as ControlRun
from anabranch.core.wire.limit_messages import CheckGrant as CheckGrant
from anabranch.core.wire.limit_messages import GrantAnswer as GrantAnswer
from anabranch.core.wire.limit_messages import GrantHolder as GrantHolder
from anabranch.core.wire.limit_messages import HoldLimit as HoldLimit
from anabranch.core.wire.limit_messages import LimitRule as LimitRule
from anabranch.core.wire.limit_messages import ReturnGrant as ReturnGrant
from anabranch.core.wire.limit_messages import SetBreaker as SetBreaker
from anabranch.core.wire.limit_messages import WantGrant as WantGrant
from anabranch.core.wire.loop_messages import LoopItems as LoopItems
from anabranch.core.wire.message_parts import Counts as Counts
from anabranch.core.wire.message_parts import DefinitionRef as DefinitionRef
from anabranch.core.wire.message_parts import Failure as Failure
from anabranch.core.wire.message_parts import Json as Json
from anabranch.core.wire.message_parts import LargeValue as LargeValue
from anabranch.core.wire.message_parts import MemberFailed as MemberFailed
from anabranch.core.wire.message_parts import MemberRetry as MemberRetry
from anabranch.core.wire.message_parts import Message as Message
from anabranch.core.wire.message_parts import Mode as Mode
from anabranch.core.wire.message_parts import Need as Need
from anabranch.core.wire.message_parts import PhaseName as PhaseName
from anabranch.core.wire.message_parts import SharedKey as SharedKey
from anabranch.core.wire.message_parts import SkippedTask as SkippedTask
from anabranch.core.wire.message_parts import Spans as Spans
from anabranch.core.wire.message_parts import Status as Status
from anabranch.core.wire.message_parts import StopReason as StopReason
from anabranch.core.wire.message_parts import empty_object
from anabranch.core.wire.offer_message import Offer as Offer
from anabranch.core.wire.placement_messages import TaskUnserved as TaskUnserved
from anabranch.core.wire.pool_messages import PoolMissing as PoolMissing
from anabranch.core.wire.publication_messages import AnswerEvent as AnswerEvent
from anabranch.core.wire.publication_messages import CloseEventWait as CloseEventWait
from anabranch.core.wire.publication_messages import DeliverEvent as DeliverEvent
from anabranch.core.wire.publication_messages import EventWaiter as EventWaiter
from anabranch.core.wire.publication_messages import OpenEventWait as OpenEventWait
from anabranch.core.wire.publication_messages import PublishEvent as PublishEvent
from anabranch.core.wire.read_messages import ArrayCounted as ArrayCounted
from anabranch.core.wire.read_messages import KeyReduced as KeyReduced
from anabranch.core.wire.read_messages import ValueFound as ValueFound
from anabranch.core.wire.report_messages import ChunkLost as ChunkLost
from anabranch.core.wire.report_messages import ChunkReturned as ChunkReturned
from anabranch.core.wire.report_messages import MemberLog as MemberLog
from anabranch.core.wire.report_messages import MembersReported as MembersReported
from anabranch.core.wire.report_messages import ValuePage as ValuePage
from anabranch.core.wire.retry_messages import LoopTaken as LoopTaken
from anabranch.core.wire.retry_messages import MembersTaken as MembersTaken
from anabranch.core.wire.retry_messages import RunTaken as RunTaken
from anabranch.core.wire.retry_messages import TakenPage as TakenPage
from anabranch.core.wire.retry_messages import TaskTaken as TaskTaken
from anabranch.core.wire.schedule_messages import ControlSchedule as ControlSchedule
from anabranch.core.wire.schedule_messages import FiringEnded as FiringEnded
from anabranch.core.wire.schedule_messages import FiringStarted as FiringStarted
from anabranch.core.wire.schedule_messages import ScheduleLink as ScheduleLink
from anabranch.core.wire.snapshot_message import Snapshot as Snapshot
from anabranch.core.wire.task_order import BranchOrder as BranchOrder
from anabranch.core.wire.task_order import TaskOrder as TaskOrder
from anabranch.core.wire.wait_messages import DecideApproval as DecideApproval
from anabranch.core.wire.wait_messages import SignalRun as SignalRun
from anabranch.core.wire.wait_messages import WaitsRendered as WaitsRendered
from anabranch.core.wire.work_messages import WorkFound as WorkFound
from anabranch.core.wire.work_messages import WorkRef as WorkRef

# --- either owner --------------------------------------------------------------------------------


class ClaimPartition(Message):
    """A new owner has taken over the partition. The offset of this record is its epoch."""

    type: Literal["claim"] = "claim"
    owner: str


class TimerDue(Message):
    """A timer of a run is due: everything that is due at `at` (seconds since the epoch) happens now."""

    type: Literal["timer"] = "timer"
    run_id: str
    at: float


# --- runs: keyed by run id -----------------------------------------------------------------------


class SubmitRun(Message):
    """A valid request, keyed by run id. `session_keys` are the keys it uses from the session's earlier context."""

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
    """Run id of the run that this one retries, and whose results it takes over."""
    parent: ParentLink | None = None
    """Of a sub-run."""
    definition: DefinitionRef | None = None
    """The definition that the request is an instance of."""
    by: str = ""
    """Of a retry: who asked for it, and why."""
    reason: str = ""
    forked_from: str | None = None
    """Run id of the ended run that this one is a fork of."""
    taken: tuple[tuple[str, str], ...] = ()
    """Of a fork: (group, task) of the tasks whose outcomes are taken over."""
    requested_by: str | None = None
    """The person who submitted it, if a gateway has authenticated one."""
    budget: Limit | None = None
    """Of a sub-run: what its parent lets it use."""
    inherited: Inherited | None = None
    """Of a sub-run, if its parent has any of it."""
    schedule: ScheduleLink | None = None
    """Of a firing of a schedule."""


class GroupResults(Message):
    """Results of a group that did not fit into its GroupFinished, sent before it."""

    type: Literal["group_results"] = "group_results"
    run_id: str
    group: str
    part: int
    results: dict[str, Json]
    admission: int | None = None


class GroupFinished(Message):
    """A group has ended: each of its tasks is completed, failed, skipped or stopped."""

    type: Literal["group_finished"] = "group_finished"
    run_id: str
    group: str
    status: Status
    results: dict[str, Json]
    parts: int = 0
    """Number of GroupResults before this record."""
    failures: tuple[Failure, ...] = ()
    failure_count: int = 0
    failure_pages: tuple[tuple[str, int, int], ...] = ()
    """If `failures` is incomplete: the pages that have all of them, each (page, number of failures, bytes)."""
    counts: Counts = Counts()
    taken_over: int = 0
    """Members in `counts` whose results were taken over from the run that is retried."""
    handled_failures: int = 0
    """Failures of tasks with an `error_key`, which are not among `failures`."""
    skipped: tuple[SkippedTask, ...] = ()
    """The first tasks that were skipped, in the order of the request."""
    warnings: tuple[str, ...] = ()
    admission: int | None = None
    """The admission of the run (see OpenRun); None if the sender is of an earlier release."""
    costs: tuple[TaskCosts, ...] = ()
    """What its tasks have used; see `core.costs`."""


# --- groups: keyed by session id -----------------------------------------------------------------


class OpenRun(Message):
    """First record of a run for its session's owner: values of the context, and the groups that will follow."""

    type: Literal["open_run"] = "open_run"
    run_id: str
    request_id: str
    session_id: str
    groups: tuple[str, ...]
    context: dict[str, Json] = empty_object()
    deadline: float
    """Seconds since the epoch."""
    traceparent: str | None = None
    retry_of: str | None = None
    """Run id of a run of this session whose results are taken over before any task starts."""
    reserved_keys: tuple[str, ...] = ()
    """Declared result keys that a derived key of `separate` could collide with."""
    shared: dict[str, SharedKey] = empty_object()
    """Keys with a policy, and their producers."""
    alternatives: dict[str, int] = empty_object()
    """Keys without a policy that several tasks produce, of which at most one runs: the number of these tasks."""
    phases: tuple[PhaseName, ...] = ()
    """Those of `groups` that start once all others have ended: `compensate`, which the session's owner makes and
    starts if something is to be undone, then `finally`."""
    submitted_at: float | None = None
    """Time of admission in seconds since the epoch. None from an earlier release if no key has a policy."""
    admission: int = 0
    """Distinguishes this run from an earlier, forgotten one with the same id: a number that rises with each
    admission (see `core.admissions`). 0 from an earlier release."""
    inline_limit: int | None = None
    """Settings that decisions about the run depend on. They are fixed for the run, so that a later change of the
    configuration does not change decisions at a replay."""
    member_limit: int | None = None
    depth: int = 0
    """Number of runs that the run is nested in as a sub-run."""
    project: str = DEFAULT_PROJECT
    forked_from: str | None = None
    taken: tuple[tuple[str, str], ...] = ()
    """See SubmitRun."""
    requested_by: str | None = None
    """The person who submitted the request, if a gateway has authenticated one."""
    budget: Limit | None = None
    """The most that the run may use: by its request, and by what its parent has left."""
    priority: Priority = DEFAULT_PRIORITY
    pool: str = DEFAULT_POOL
    fairness_key: str | None = None
    """Of the offers of tasks that name none. Null: the project is the key."""
    due_at: float | None = None
    """The time by which the run is wanted, in seconds since the epoch: the nearer it is, the higher is the level
    of its offers. It is the deadline that the request, or that of a parent, names."""
    configured_limits: RunLimitSet | None = None
    """Limits of its project and its agents by configuration, fixed for the run as the settings above."""


class StartGroup(Message):
    """A group to start, or a part of it: the group has `parts` such records."""

    type: Literal["start_group"] = "start_group"
    run_id: str
    group: str
    tasks: tuple[TaskOrder, ...]
    part: int = 0
    parts: int = 1
    timeout: float | None = None
    max_concurrency: int | None = None
    admission: int | None = None
    fail_fast: bool = False
    """The first task that fails cancels the others."""
    need: int | None = None
    """So many completed tasks (members, if the group has one task) decide the group, and cancel the others. Steps
    of the kinds `switch` and `loop` do not count."""
    is_finally: bool = False
    """The tasks run once all other groups have ended, whatever happened, outside a stop of the run."""
    budget: Limit | None = None
    """The most that the tasks of the group may use."""
    most_chunks: int | None = None
    """Maximum chunks of a task that are offered or running at once, if workers have started them; None: the limit
    of waiting chunks."""


class StopRun(Message):
    """Stop a run: tasks and members that have not ended are stopped."""

    type: Literal["stop_run"] = "stop_run"
    run_id: str
    reason: StopReason
    admission: int | None = None
    terminate: bool = False
    """The run ends without what it does after a cancellation."""


class PauseRun(Message):
    """Pause a run, so that no further members start, or resume it."""

    type: Literal["pause_run"] = "pause_run"
    run_id: str
    paused: bool
    admission: int | None = None
    cause: int = -1
    """Offset of the command on the run's partition; a command older than the last applied one is ignored."""


class ReleaseHeld(Message):
    """Release held members: they run again (`redrive`), or count as failed (`dismiss`).

    A null field selects all: of the run, the group, or the task. A repeated command id is ignored.
    """

    type: Literal["release_held"] = "release_held"
    run_id: str
    action: Literal["redrive", "dismiss"]
    group: str | None = None
    task: str | None = None
    indexes: tuple[int, ...] | None = None
    iteration: tuple[int, ...] | None = None
    """Only members of this iteration of the loops around their task; null: of the running one."""
    command_id: str
    by: str = ""
    reason: str = ""


class Nudge(Message):
    """The EventManager has seen no event of a run for a while: the owner checks again what the run waits for."""

    type: Literal["nudge"] = "nudge"
    run_id: str
    silent_for: float


OnRuns = Annotated[
    SubmitRun
    | SubmitChild
    | ControlChild
    | ControlRun
    | GroupResults
    | GroupFinished
    | PhaseBegan
    | FailRun
    | RunUnknown
    | RunOverdue
    | PublishEvent
    | OpenEventWait
    | CloseEventWait
    | AnswerEvent
    | WantGrant
    | ReturnGrant
    | HoldLimit
    | SetBreaker
    | GrantAnswer
    | CheckGrant
    | ControlSchedule
    | FiringStarted
    | FiringEnded
    | TimerDue
    | Snapshot
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
    | SignalRun
    | DecideApproval
    | DeliverEvent
    | GrantAnswer
    | CheckGrant
    | ValueFound
    | ArrayCounted
    | CacheLooked
    | WaitsRendered
    | ConditionJudged
    | LoopItems
    | KeyReduced
    | ValuePage
    | TakenPage
    | MembersTaken
    | LoopTaken
    | RunTaken
    | TaskTaken
    | ChildStarted
    | ChildEnded
    | ChildValue
    | MembersReported
    | ChunkReturned
    | ChunkLost
    | TaskUnserved
    | PoolMissing
    | WorkFound
    | Nudge
    | TimerDue
    | Snapshot
    | ClaimPartition
    | Fragment,
    Field(discriminator="type"),
]
OnTasks = Offer
