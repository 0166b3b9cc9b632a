"""The state of an open run and its groups. Data with invariants, no decisions.

It is a fold over one partition of the topic `groups`: a new owner rebuilds it by reading the partition from the
first record, or the last snapshot, of its oldest open run. A field that is added here is part of snapshots, see
`snapshots`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from anabranch.core.lanes import DEFAULT_POOL, DEFAULT_PRIORITY, Priority
from anabranch.core.policies import Policy
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.configured_limits import RunLimitSet
from anabranch.core.request.limits import Breaker
from anabranch.core.snapshots import RunTrail
from anabranch.core.value_objects import value_object
from anabranch.core.wire.messages import Failure, Json, PhaseName, Status, StopReason
from anabranch_taskgroup.session.budget_state import Budget
from anabranch_taskgroup.session.cache_state import Flight
from anabranch_taskgroup.session.phase_table import GROUP_OF, Phase
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.timers import Timers
from anabranch_taskgroup.session.traceback_limits import MAX_RUN_BYTES
from anabranch_taskgroup.session.values import Absent as Absent
from anabranch_taskgroup.session.values import Value as Value
from anabranch_taskgroup.session.wait_state import Signals


@value_object
class PublishedValue:
    """A value as it is published outside the run. Made by `value_references.as_published`.

    `document` is what is published: a reference where `is_reference`, else a value that cannot be taken for one.
    `data` is the JSON of `document`, `size` the bytes of the value itself.
    """

    document: Json
    data: bytes
    size: int
    is_reference: bool = False

    @property
    def value(self) -> Value:
        return Value(self.document, self.is_reference)


@value_object
class ProducerValue:
    """The contribution of a task to a key with a policy; `items` is the length of a list, 1 for any other
    value."""

    value: Value
    items: int


@dataclass(slots=True)
class MergedKey:
    """A key with a policy: its producers in declared order, which of them have ended, and their contributions."""

    policy: Policy
    producers: tuple[tuple[str, str], ...]
    ended: set[int] = field(default_factory=set)
    by_producer: dict[int, ProducerValue] = field(default_factory=dict)
    is_settled: bool = False
    is_reducing: bool = False
    """All producers have ended, and the shell reads contributions that are in the store."""

    @property
    def home(self) -> str:
        """The group that reports the value, whichever producer ends last."""
        return self.producers[-1][0]

    def writer(self, number: int) -> str:
        return "/".join(self.producers[number])

    @property
    def writers(self) -> tuple[str, ...]:
        """The producers that contributed a value, as group/task."""
        return tuple(self.writer(number) for number in sorted(self.by_producer))


@dataclass(slots=True)
class Group:
    """A group of a run. It is known completely once `parts` StartGroup records were read."""

    name: str
    parts: int
    seen: set[int] = field(default_factory=set)
    tasks: dict[str, Task] = field(default_factory=dict)
    unfinished: int = 0
    deadline: float | None = None
    max_concurrency: int | None = None
    max_chunks: int | None = None
    timed_out: bool = False
    is_reported: bool = False
    opened_at: float = 0.0
    """Time of its first record, in seconds since the epoch."""
    has_lost_worker: bool = False
    """A worker died while it ran members of the group: none of them runs in the owner's process any more."""
    results: dict[str, Json] = field(default_factory=dict)
    """The results that the group reports: values of completed tasks, and partial values of failed ones."""
    unsettled: set[str] = field(default_factory=set)
    """Keys with a policy that the group reports and that have no value yet."""
    conflicts: list[Failure] = field(default_factory=list)
    """Failures that belong to no task: contributions to a key with a policy conflict, or the group cannot reach
    the number of completed tasks that it needs."""
    fail_fast: bool = False
    need: int | None = None
    """See StartGroup."""
    decided: Status | None = None
    """How the group ends, whatever its other tasks would have done: `fail_fast` or `need` has cancelled them."""

    budget: Budget | None = None
    is_ending: bool = False
    """The group of a phase of the run's end: it starts last, and a stop of the run does not stop it."""

    @property
    def is_known(self) -> bool:
        return len(self.seen) == self.parts

    @property
    def in_flight(self) -> int:
        return sum(task.in_flight for task in self.tasks.values())

    @property
    def is_stopped(self) -> bool:
        """Its timeout has ended its tasks; it stays open for further parts, or for other groups' contributions to
        its keys."""
        return self.timed_out and not self.unfinished

    @property
    def state(self) -> str:
        """Derived from the tasks: INITIALIZED, WAITING, EXECUTING, PUBLISHING, DONE."""
        if not self.is_known:
            return "INITIALIZED"
        if self.is_reported:
            return "DONE"
        if self.unfinished == 0:
            return "PUBLISHING"
        running = any(task.state in (TaskState.READY, TaskState.RUNNING) for task in self.tasks.values())
        return "EXECUTING" if running else "WAITING"


class Scope(Protocol):
    """Keys that are set together: of a run, which is the root scope, or of the running iteration of a loop."""

    values: dict[str, Value | Absent]
    """By key: its value or absence; a key that is not settled is missing."""
    waiters: dict[str, list[Task]]
    """By key that is not settled: the tasks that wait for it."""
    alternatives: dict[str, int]
    """By key that several tasks produce, of which at most one runs: how many of these tasks have not ended. That
    of an iteration has each key that its tasks produce."""


@dataclass(slots=True)
class Run:
    """One open run, and the root `Scope` of its keys. `values` is the run's own view of the session: only its own
    outcomes satisfy its dependencies."""

    run_id: str
    request_id: str
    session_id: str
    opened_at_offset: int
    deadline: float
    expected: tuple[str, ...]
    admission: int = 0
    """Distinguishes the run from an earlier one of the same id; see `core.admissions`."""
    inline_limit: int = 65_536
    member_limit: int = 1_000_000
    groups: dict[str, Group] = field(default_factory=dict)
    context: dict[str, Json] = field(default_factory=dict)
    values: dict[str, Value | Absent] = field(default_factory=dict)
    waiters: dict[str, list[Task]] = field(default_factory=dict)
    alternatives: dict[str, int] = field(default_factory=dict)
    producers: dict[str, Task] = field(default_factory=dict)
    """By key: the task that produces it."""
    watched: set[str] = field(default_factory=set)
    from_outside: set[str] = field(default_factory=set)
    """Keys that tasks declare as external dependencies, in contrast to keys that an earlier run of the session
    set."""
    phases: tuple[PhaseName, ...] = ()
    """The groups of its end; see OpenRun."""
    phase: Phase = Phase.RUNNING
    outcome: Status | None = None
    """How the groups of the request ended as a whole; None before."""
    undo: list[tuple[str, str]] = field(default_factory=list)
    """(group, task) of the tasks with `compensate` that ended with completed members, in the order of their
    ends."""
    terminated: bool = False
    """It ends without compensations and `finally`."""
    stopped: StopReason | None = None
    paused: bool = False
    pause_cause: int = -1
    traceparent: str | None = None
    reserved_keys: frozenset[str] = frozenset()
    shared: dict[str, MergedKey] = field(default_factory=dict)
    """By key: those that have a policy."""
    submitted_at: float = 0.0
    derived: dict[str, str] = field(default_factory=dict)
    """By derived key of a `separate` join: its task, as group/task."""
    stored: list[str] = field(default_factory=list)
    """Names of the manifests of values that are published as references."""
    finished_groups: int = 0
    importing_from: str | None = None
    """The run that this one retries, until its outcomes have been imported."""
    retry_of: str | None = None
    traceback_bytes_left: int = MAX_RUN_BYTES
    warnings: tuple[str, ...] = ()
    commands: set[str] = field(default_factory=set)
    """Ids of the commands on held members that were carried out."""
    forked_from: str | None = None
    taken: tuple[tuple[str, str], ...] = ()
    depth: int = 0
    project: str = DEFAULT_PROJECT
    """See OpenRun."""
    timers: Timers = field(default_factory=Timers)
    overdue_questions: int = 0
    """How many times the run's owner was asked about the run; see `overdue`."""
    conditions: list[tuple[str, str]] = field(default_factory=list)
    """(group, task) of the steps that wait for a condition."""
    requested_by: str | None = None
    """The person who submitted the request."""
    priority: Priority = DEFAULT_PRIORITY
    pool: str = DEFAULT_POOL
    fairness_key: str | None = None
    due_at: float | None = None
    """See OpenRun."""
    signals: Signals | None = None
    """None before the first signal, and before the first wait for one."""
    flights: dict[str, Flight] = field(default_factory=dict)
    """By cache key: the member that computes its value, and those that wait for it."""
    budget: Budget | None = None
    has_budgets: bool = False
    """The run, a group or a task of it has a budget."""
    starved: dict[tuple[str, str], float] = field(default_factory=dict)
    """By (group, task) of the tasks with members that a budget does not let start: since when, in seconds since
    the epoch."""
    breakers: dict[str, Breaker] = field(default_factory=dict)
    """By agent: the breaker that is configured for it; or that it declares, once a worker has said so."""
    configured_limits: RunLimitSet | None = None
    """See OpenRun."""
    trail: RunTrail = field(default_factory=RunTrail, compare=False)
    """What the log has of the run: no part of its state."""

    def task(self, group: str, name: str) -> Task | None:
        found = self.groups.get(group)
        return found.tasks.get(name) if found else None

    def may_start(self, group: Group) -> bool:
        """False for a group of a phase that has not begun: its tasks are admitted later."""
        return not group.is_ending or GROUP_OF.get(self.phase) == group.name
