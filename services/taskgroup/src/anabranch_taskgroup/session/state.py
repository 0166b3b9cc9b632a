"""What a session's owner remembers of its open runs. Data with invariants, no decisions.

All of it is a fold over one partition of the `groups` topic: replaying the partition from the first record
of the oldest open run gives it again, which is how a new owner gets it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any

from anabranch.core.expansion.members import Expanded
from anabranch.core.policies import Policy
from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import Failure, Json, Mode, Spans, StopReason, TaskOrder
from anabranch_taskgroup.session.states import ENDINGS, TaskState
from anabranch_taskgroup.session.traceback_limits import RUN_BYTES, TracebackBudget, room_for_retries

TOMBSTONES = 20_000
"""Ended or unheard-of runs that are remembered, so that a late message is known to be late."""
SPARE_DUES = 64
"""Timers that do not count any more and are kept at least."""


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


@dataclass(slots=True)
class Chunk:
    """Members that were offered together.

    `fence` rises with each offer that may run them again; a report under an older one is refused.
    `pending` are the members that have not ended. `charge` is what it takes of the concurrency limits.
    """

    number: int
    pending: Ranges
    charge: int
    fence: int = 0
    deliveries: int = 1
    attempts: dict[int, int] = field(default_factory=dict)
    offered_at: float = 0.0
    size: int = 0
    bounces: int = 0
    """How often a worker gave it back because it lacks the agent."""
    mode: Mode = "fast"
    begun: Ranges = field(default_factory=Ranges)
    """Members that this delivery has recorded as started; complete unless `mode` is fast."""

    def renew(self) -> None:
        """The next delivery begins: what the last one's worker still tells is refused."""
        self.fence += 1
        self.begun = Ranges()

    def take(self, index: int) -> None:
        """A member is no longer this chunk's: it ended, or waits for its next attempt."""
        self.pending = self.pending.difference(Ranges([(index, index + 1)]))


@dataclass(frozen=True, slots=True)
class Held:
    """A member that failed for good, and the workers that died while it ran alone."""

    failure: Failure
    deliveries: int


@dataclass(slots=True)
class Part:
    """The packed results of one report: for each result key the JSON array of the values of `spans`."""

    spans: Spans
    segments: tuple[bytes, ...]
    items: tuple[int, ...]
    identifiers: bytes = b""


@dataclass(frozen=True, slots=True)
class Page:
    """A part that went to the store, page `number` of each result key."""

    number: int
    spans: Spans
    sizes: tuple[int, ...]
    items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Large:
    """A member's value that stands in pages of its own."""

    index: int
    key: str
    prefix: str
    sizes: tuple[int, ...]
    items: tuple[int, ...] | None


@dataclass(slots=True)
class Task:
    """One task of a group and the join of its members."""

    order: TaskOrder
    group: str
    first_fence: int = 0
    """The fence of each chunk's first delivery."""
    state: TaskState = TaskState.WAITING
    missing: set[str] = field(default_factory=set)
    total: int = 0
    expanded: Expanded | None = None
    cursor: int = 0
    """Members below it were offered at least once."""
    chunks: dict[int, Chunk] = field(default_factory=dict)
    """By number, those that are offered and have not ended."""
    waiting: set[int] = field(default_factory=set)
    """Of these the ones of which no member is known to have started: they may wait for a worker."""
    chunk_count: int = 0
    requeued: list[Chunk] = field(default_factory=list)
    """Chunks given back, and retries that are due, to be offered before new members."""
    retries: list[tuple[float, int, int]] = field(default_factory=list)
    """Heap of (due, index, attempts made)."""
    parked: list[tuple[float, Chunk]] = field(default_factory=list)
    """(due, chunk) of chunks that no worker asked so far can run."""
    ended: int = 0
    started: Ranges = field(default_factory=Ranges)
    completed: Ranges = field(default_factory=Ranges)
    failed: dict[int, Failure] = field(default_factory=dict)
    held: dict[int, Held] = field(default_factory=dict)
    """Failed members that the join waits for, until they are redriven or dismissed."""
    redrives: dict[int, int] = field(default_factory=dict)
    tracebacks: TracebackBudget = field(default_factory=TracebackBudget)
    retry_tracebacks: TracebackBudget = field(default_factory=room_for_retries)
    letters: int = 0
    omitted: int = 0
    """Failed members beyond those that got a dead letter."""
    parts: list[Part] = field(default_factory=list)
    parts_bytes: int = 0
    pages: list[Page] = field(default_factory=list)
    large: list[Large] = field(default_factory=list)
    identifiers: dict[int, str] = field(default_factory=dict)
    spilled: bool = False
    taken_total: int | None = None
    """Members of the task in the run that is retried, where results of some were taken over."""
    taken_over: int = 0
    """Members that completed there and did not run here."""
    unseen: set[str] = field(default_factory=set)
    """Dependencies that had no value there."""
    careful: Ranges = field(default_factory=Ranges)
    """Open members that were held by a worker when it died: each of their starts is recorded before it."""
    deaths: dict[int, int] = field(default_factory=dict)
    """Open members that are to run alone, and how many workers died while they did."""
    member_bytes: float = 0.0
    """Bytes of array items that the offer of one member takes along, on average; 0 where they are small."""
    member_seconds: float | None = None
    """Seconds that a worker takes for one member, smoothed."""
    began_at: float | None = None
    """When its dependencies were there, in seconds since the epoch."""
    lacking_since: float | None = None
    """When a worker without the agent first gave a chunk back, while no member has started since."""
    lack_due: float | None = None
    """When that is to be told; None once the time has come."""
    lack_told: bool = False
    later_attempts: dict[int, int] = field(default_factory=dict)
    """Of sampled members that completed in a later attempt than the first, its number."""

    @property
    def name(self) -> str:
        return self.order.name

    @property
    def is_over(self) -> bool:
        return self.state in ENDINGS

    @property
    def in_flight(self) -> int:
        return sum(chunk.charge for chunk in self.chunks.values())

    def put_out(self, chunk: Chunk) -> None:
        """A chunk is about to be offered."""
        self.chunks[chunk.number] = chunk
        self.waiting.add(chunk.number)

    def take_in(self, chunk: Chunk) -> None:
        """A chunk has ended, or is to be offered anew."""
        del self.chunks[chunk.number]
        self.waiting.discard(chunk.number)

    def schedule_retry(self, due: float, index: int, attempts: int) -> None:
        heappush(self.retries, (due, index, attempts))

    def mode_of(self, index: int) -> Mode:
        """How a member is to run the next time."""
        if index in self.deaths:
            return "alone"
        return "careful" if index in self.careful else "fast"

    def clear_of_suspicion(self, ended: Ranges) -> None:
        """Members that have ended kill nobody any more."""
        if self.careful:
            self.careful = self.careful.difference(ended)
        for index in [index for index in self.deaths if index in ended]:
            del self.deaths[index]


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
    armed: float | None = None
    """When its earliest timer is due, as its partition has it."""
    ask_at: float = inf
    """When the run's owner is asked about it; see `overdue`."""
    asked: int = 0
    """How often that was asked."""

    def task(self, group: str, name: str) -> Task | None:
        found = self.groups.get(group)
        return found.tasks.get(name) if found else None

    def next_due(self) -> float | None:
        """When the earliest timer of the run is due, in seconds since the epoch."""
        due = [
            group.deadline
            for group in self.groups.values()
            if group.deadline is not None and not group.announced and not group.is_stopped
        ]
        tasks = [task for group in self.groups.values() for task in group.tasks.values()]
        due += [task.retries[0][0] for task in tasks if task.retries]
        due += [parked[0] for task in tasks for parked in task.parked]
        due += [task.lack_due for task in tasks if task.lack_due is not None and not task.is_over]
        return min(due, default=None)


@dataclass(frozen=True, slots=True)
class EndedRun:
    """What is remembered of a run: "ended", or the reason for which it is to stop once it is opened."""

    reason: str
    admission: int


@dataclass(slots=True)
class PartitionState:
    """Everything that one owner knows from one partition of `groups`."""

    number: int
    generation: int = 0
    """Of the log; see `core.admissions`."""
    runs: dict[str, Run] = field(default_factory=dict)
    tombstones: OrderedDict[str, EndedRun] = field(default_factory=OrderedDict)
    """By run id: runs that ended, and runs that are to stop and have not been opened yet."""
    timers: set[str] = field(default_factory=set)
    """Runs that may have a timer."""
    dues: list[tuple[float, str]] = field(default_factory=list)
    """Heap of (due, run id); an entry counts where it is what its run has as `armed`."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Messages that changed nothing, counted by reason."""

    def bury(self, run_id: str, reason: str, admission: int) -> None:
        self.tombstones[run_id] = EndedRun(reason, admission)
        self.tombstones.move_to_end(run_id)
        while len(self.tombstones) > TOMBSTONES:
            self.tombstones.popitem(last=False)

    def drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def arm(self, run: Run) -> None:
        """Something may have changed when the earliest timer of a run is due."""
        due = run.next_due() if run.run_id in self.timers else None
        due = run.ask_at if due is None else min(due, run.ask_at)
        if due == run.armed:
            return
        run.armed = due
        heappush(self.dues, (due, run.run_id))
        if len(self.dues) > SPARE_DUES + 4 * len(self.runs):
            self.dues = [entry for entry in self.dues if self._counts(entry)]
            heapify(self.dues)

    def next_due(self) -> float | None:
        """When the earliest timer of any run is due. Asked in each turn, so it may not look at every run."""
        while self.dues:
            if self._counts(self.dues[0]):
                return self.dues[0][0]
            heappop(self.dues)
        return None

    def due(self, now: float) -> Sequence[Run]:
        """The runs that have a timer which is due."""
        found: dict[str, Run] = {}
        places = [0]
        while places:
            place = places.pop()
            if place < len(self.dues) and self.dues[place][0] <= now:
                places += (2 * place + 1, 2 * place + 2)
                if self._counts(self.dues[place]):
                    run_id = self.dues[place][1]
                    found[run_id] = self.runs[run_id]
        return list(found.values())

    def _counts(self, entry: tuple[float, str]) -> bool:
        run = self.runs.get(entry[1])
        return run is not None and run.armed == entry[0]

    def oldest_open(self) -> int | None:
        """Offset of the first record of the oldest open run; runs are kept in that order."""
        first = next(iter(self.runs.values()), None)
        return first.opened_at_offset if first is not None else None


def as_value(data: Any, *, reference: bool = False) -> Value:
    return Value(data, reference)
