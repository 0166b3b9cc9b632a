"""What a session's owner remembers of its open runs. Data with invariants, no decisions.

All of it is a fold over one partition of the `groups` topic: replaying the partition from the first record
of the oldest open run gives it again, which is how a new owner gets it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from anabranch.core.policies import Policy
from anabranch.core.wire.messages import Failure, Json, StopReason
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.timers import Timers
from anabranch_taskgroup.session.traceback_limits import RUN_BYTES


@dataclass(frozen=True, slots=True)
class Value:
    """What a key holds within a run: `data` is JSON, or a reference where `is_reference`."""

    data: Json
    is_reference: bool = False


@dataclass(frozen=True, slots=True)
class PublishedValue:
    """A value as others are told it. Made by `telling.tell`.

    `shown` is what stands in its place: a reference where `is_reference`, else a value without the mark of one.
    `data` is its JSON, `size` the bytes of the value itself.
    """

    shown: Json
    data: bytes
    size: int
    is_reference: bool = False

    @property
    def value(self) -> Value:
        return Value(self.shown, self.is_reference)


@dataclass(frozen=True, slots=True)
class Absent:
    """A key that will have no value in this run, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class ProducerValue:
    """What a task gave to a key with a policy; `items` is how many a list has, 1 of anything else."""

    value: Value
    items: int


@dataclass(slots=True)
class MergedKey:
    """A key with a policy: its producers in declared order, who of them has ended, and what they gave."""

    policy: Policy
    producers: tuple[tuple[str, str], ...]
    ended: set[int] = field(default_factory=set)
    given: dict[int, ProducerValue] = field(default_factory=dict)
    is_settled: bool = False
    is_reducing: bool = False
    """All have ended, and what they gave is being read."""

    @property
    def home(self) -> str:
        """The group that tells the value, whoever ends last."""
        return self.producers[-1][0]

    def writer(self, number: int) -> str:
        return "/".join(self.producers[number])

    @property
    def writers(self) -> tuple[str, ...]:
        """Those that gave something."""
        return tuple(self.writer(number) for number in sorted(self.given))


@dataclass(slots=True)
class Group:
    """A group of a run: complete once `parts` StartGroup records came."""

    name: str
    parts: int
    seen: set[int] = field(default_factory=set)
    tasks: dict[str, Task] = field(default_factory=dict)
    unfinished: int = 0
    deadline: float | None = None
    max_concurrency: int | None = None
    most_chunks: int | None = None
    timed_out: bool = False
    announced: bool = False
    opened_at: float = 0.0
    """When its first record came, in seconds since the epoch."""
    bereaved: bool = False
    """A worker died over members of it: none of them runs beside the owner any more."""
    results: dict[str, Json] = field(default_factory=dict)
    """What the group hands to the run: its values, and of broken tasks what there is."""
    unsettled: set[str] = field(default_factory=set)
    """Keys with a policy whose values it is to tell, and which are not known yet."""
    conflicts: list[Failure] = field(default_factory=list)
    """Of such keys, why they have no value."""

    @property
    def is_known(self) -> bool:
        return len(self.seen) == self.parts

    @property
    def in_flight(self) -> int:
        return sum(task.in_flight for task in self.tasks.values())

    @property
    def is_stopped(self) -> bool:
        """Its timeout has stopped it, and it waits for what others give to its keys."""
        return self.timed_out and not self.unfinished

    @property
    def state(self) -> str:
        """Derived from the tasks: INITIALIZED, WAITING, EXECUTING, PUBLISHING, DONE."""
        if not self.is_known:
            return "INITIALIZED"
        if self.announced:
            return "DONE"
        if self.unfinished == 0:
            return "PUBLISHING"
        running = any(task.state in (TaskState.READY, TaskState.RUNNING) for task in self.tasks.values())
        return "EXECUTING" if running else "WAITING"


@dataclass(slots=True)
class Run:
    """One run in its session. `values` is the run's own view: only its outcomes satisfy its dependencies."""

    run_id: str
    request_id: str
    session_id: str
    opened_at_offset: int
    deadline: float
    expected: tuple[str, ...]
    admission: int = 0
    """Tells it from an earlier run of the same id; see `core.admissions`."""
    inline_limit: int = 65_536
    member_limit: int = 1_000_000
    groups: dict[str, Group] = field(default_factory=dict)
    context: dict[str, Json] = field(default_factory=dict)
    values: dict[str, Value | Absent] = field(default_factory=dict)
    waiters: dict[str, list[Task]] = field(default_factory=dict)
    producers: dict[str, Task] = field(default_factory=dict)
    """The task that produces a key of the run."""
    watched: set[str] = field(default_factory=set)
    from_outside: set[str] = field(default_factory=set)
    """Keys that tasks wait for as somebody else's, and not as what an earlier run of the session left."""
    stopped: StopReason | None = None
    paused: bool = False
    pause_cause: int = -1
    traceparent: str | None = None
    reserved_keys: frozenset[str] = frozenset()
    shared: dict[str, MergedKey] = field(default_factory=dict)
    """The keys that have a policy."""
    submitted_at: float = 0.0
    derived: dict[str, str] = field(default_factory=dict)
    """The keys that `separate` joins of this run derived -> whose they are, as group/task."""
    stored: list[str] = field(default_factory=list)
    """Names of the manifests of values that were stored to be told."""
    finished_groups: int = 0
    taking: str | None = None
    """The run that is retried, until all that it left has been taken over."""
    retry_of: str | None = None
    traceback_bytes_left: int = RUN_BYTES
    warnings: tuple[str, ...] = ()
    commands: set[str] = field(default_factory=set)
    """Ids of the commands on held members that were obeyed."""
    timers: Timers = field(default_factory=Timers)
    asked: int = 0
    """How many times the run's owner was asked about the run; see `overdue`."""

    def task(self, group: str, name: str) -> Task | None:
        found = self.groups.get(group)
        return found.tasks.get(name) if found else None
