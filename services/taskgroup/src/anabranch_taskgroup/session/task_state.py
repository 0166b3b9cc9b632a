"""The state of one task: its members, its chunks, and the results so far. Data with invariants, no decisions.

An ordinary task has one member. Its sets of members are shared objects (`ranges.single_range`), and what only a
task with failures needs is made at the first failure: so it takes few objects of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heappush
from typing import Literal

from anabranch.core.costs import NO_COSTS
from anabranch.core.ranges import NO_RANGES, Ranges
from anabranch.core.request.budget_fields import Limit
from anabranch.core.wire.messages import Counts, Failure, Json, Mode, Spans, Status, TaskOrder
from anabranch_taskgroup.session.budget_state import Amounts, Budget, minus
from anabranch_taskgroup.session.chunk_state import Chunk as Chunk
from anabranch_taskgroup.session.limit_state import TaskLimits
from anabranch_taskgroup.session.states import CLOSED, ENDINGS, TaskEvent, TaskState
from anabranch_taskgroup.session.traceback_limits import TracebackBudget, retry_budget
from anabranch_taskgroup.session.values import Absent, Value
from anabranch_taskgroup.session.wait_state import OpenWaits


@dataclass(frozen=True, slots=True)
class Held:
    """A member that failed for good and awaits a decision; `deliveries` counts workers that died while it ran
    alone."""

    failure: Failure
    deliveries: int


@dataclass(slots=True)
class PackedResults:
    """The packed results of one report: for each result key, a JSON array of the values of the members in
    `spans`."""

    spans: Spans
    segments: tuple[bytes, ...]
    items: tuple[int, ...]
    identifiers: bytes = b""


@dataclass(frozen=True, slots=True)
class Page:
    """A part that was moved to the store, as page `number` of each result key."""

    number: int
    spans: Spans
    sizes: tuple[int, ...]
    items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Large:
    """A value of one member that is stored in pages of its own."""

    index: int
    key: str
    prefix: str
    sizes: tuple[int, ...]
    items: tuple[int, ...] | None


WITHOUT_MEMBERS = frozenset(("switch", "loop"))
"""Kinds of steps that only decide about others: they do not count as members, in numbers of completed tasks, or as
skipped tasks."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Why a task was skipped: `empty` is an expansion without members, `wait` the end of its wait; `because` is a
    text for people. `by_failure`: see `Absent`."""

    reason: Literal["dependency", "condition", "branch", "empty", "wait"]
    because: str
    by_failure: bool = False


@dataclass(slots=True)
class Task:
    """One step of a group, and the join of its members."""

    order: TaskOrder
    group: str
    first_fence: int = 0
    """The fencing token of each chunk's first delivery."""
    iteration: tuple[int, ...] = ()
    """Numbers of the iterations that the task belongs to, from 0, that of the outermost loop first."""
    state: TaskState = TaskState.WAITING
    missing: set[str] = field(default_factory=set)
    total: int = 0
    cursor: int = 0
    """Index of the first member that was never offered."""
    chunks: dict[int, Chunk] = field(default_factory=dict)
    """By number: the chunks that are offered and have not ended."""
    waiting: set[int] = field(default_factory=set)
    """Numbers of offered chunks without a started member: they may still wait for a worker."""
    chunk_count: int = 0
    """Chunks so far. The tasks of a loop body go on counting from one iteration to the next, so a message about a
    chunk of an earlier iteration is stale."""
    first_chunk: int = 0
    """Number of the first chunk of the running iteration."""
    requeued: list[Chunk] = field(default_factory=list)
    """Returned chunks and due retries, which are offered before new members."""
    retries: list[tuple[float, int, int]] = field(default_factory=list)
    """Heap of (due, member, attempts made)."""
    parked: list[tuple[float, Chunk]] = field(default_factory=list)
    """(due, chunk) of chunks that wait because every worker that read them lacks the agent."""
    ended: int = 0
    started: Ranges = NO_RANGES
    completed: Ranges = NO_RANGES
    failed: dict[int, Failure] = field(default_factory=dict)
    held: dict[int, Held] = field(default_factory=dict)
    """Failed members that the join waits for until a command redrives or dismisses them."""
    redrives: dict[int, int] = field(default_factory=dict)
    retrier_attempts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Of a task with `retriers`, by open member: how many failed attempts count against each of them."""
    tracebacks: TracebackBudget | None = None
    """The budget for tracebacks of failed members; None before the first one."""
    retry_tracebacks: TracebackBudget | None = None
    """The same for attempts that are retried."""
    dead_letters: int = 0
    omitted_dead_letters: int = 0
    """Failed members without a dead letter, beyond `MAX_DEAD_LETTERS`."""
    packed: list[PackedResults] = field(default_factory=list)
    packed_bytes: int = 0
    pages: list[Page] = field(default_factory=list)
    large: list[Large] = field(default_factory=list)
    identifiers: dict[int, str] = field(default_factory=dict)
    spilled: bool = False
    imported_total: int | None = None
    """Number of members in the run that is retried; None if no results were imported from it."""
    imported_count: int = 0
    """Members that completed in the run that is retried, and are not run again."""
    unseen: set[str] = field(default_factory=set)
    """Dependencies that had no value in the run that is retried."""
    careful: Ranges = NO_RANGES
    """Open members that a worker held when it died: their starts are recorded on the log before they run."""
    deaths: dict[int, int] = field(default_factory=dict)
    """By open member that runs alone: how many workers died while it did."""
    handles: dict[int, tuple[int, str]] = field(default_factory=dict)
    """By open member: the attempt that work outside of workers makes, and the handle of that work."""
    is_outside: bool = False
    """True once a worker has reported such work: a member of the task runs outside of its worker."""
    member_bytes: float = 0.0
    """Average bytes of array items in the offer of one member; 0 where they are small."""
    member_seconds: float | None = None
    """Smoothed seconds of a worker for one member; None before the first measurement."""
    began_at: float | None = None
    """When the last dependency was there, in seconds since the epoch."""
    agent_missing_since: float | None = None
    """When a worker first returned a chunk because it lacks the agent; None once a member has started."""
    missing_agent_reported: bool = False
    """The event about the missing agent was emitted, and no member has started since."""
    room_missing_since: float | None = None
    """When a worker first returned a chunk because it offers less than the task requires; None once a member has
    started."""
    room_lack: str | None = None
    """What all workers lack of what the task requires, once that was reported; None once a member has started."""
    lacks_workers_since: float | None = None
    """Since when its chunks wait for a worker of its pool, which has none, in seconds since the epoch; None once a
    member has started."""
    skip: Skip | None = None
    judging: str | None = None
    """The purpose of conditions whose values the shell reads from the store; see `conditions`."""
    choice: int | None = None
    """Of a switch that has completed: the number of the chosen case, from 0; -1: none."""
    because: str = ""
    """Of a switch: why no case was true."""
    loop: LoopState | None = None
    """Of a loop that has begun."""
    imported_loop: LoopState | None = None
    """Of a loop that has not begun: what it begins with in a retry."""
    later_attempts: dict[int, int] = field(default_factory=dict)
    """By sampled member that completed in a later attempt than the first: the attempt."""
    waits: OpenWaits | None = None
    """Of a step of kind `wait` that has begun; None for any other."""

    taken: tuple[bytes, ...] | None = None
    """JSON of each result key, if the task completed in the run that this one is a fork of."""
    children: dict[int, int] | None = None
    """Of a step of kind `run` that has begun: by member, the attempt of its open sub-run."""
    known_children: Ranges = NO_RANGES
    """Members whose open sub-run is known to exist."""
    stopping: TaskEvent | None = None
    """The event that ends the step, which is stopped and waits for the ends of its sub-runs."""
    nanos: int = 0
    """What its members have used, in all iterations: billionths of a dollar, tokens, microseconds of attempts."""
    tokens: int = 0
    micros: int = 0
    repeated: int = 0
    """Calls of its agent that are not the first ones of the members in `started`."""
    limits: TaskLimits | None = None
    """Of a task with limits that runs share, once it has begun."""
    budget: Budget | None = None
    reserved: Amounts = NO_COSTS
    """What its members that were offered, or run, may still use, if there are budgets."""
    charged: Amounts = NO_COSTS
    """What it has used, as its budgets have counted it."""
    counted: Amounts = NO_COSTS
    """What is reserved for it, as its budgets have counted it."""
    priced: int = 0
    """Members that ended in earlier iterations."""
    looking: dict[int, Chunk] = field(default_factory=dict)
    """By number: the chunks whose members the shell looks up in the cache."""
    cache_keys: dict[int, str] = field(default_factory=dict)
    """By open member: the key under which its value is to be cached."""
    cached: int = 0
    """Members that have taken over a cached value, or that of another member."""
    child_limits: dict[int, Limit] = field(default_factory=dict)
    """By member: the budget of its open sub-run."""

    @property
    def name(self) -> str:
        return self.order.name

    @property
    def is_over(self) -> bool:
        return self.state in ENDINGS

    @property
    def is_handled(self) -> bool:
        """True if the task failed, and its failure is the value of its `error_key`."""
        return self.state is TaskState.FAILED and self.order.error_key is not None

    @property
    def is_open(self) -> bool:
        """True if the task has been admitted and has not ended."""
        return self.state not in CLOSED

    @property
    def in_flight(self) -> int:
        if self.children is not None:
            return len(self.children)
        offered = sum(chunk.charge for chunk in self.chunks.values())
        if self.looking:
            offered += sum(chunk.charge for chunk in self.looking.values())
        return offered if self.limits is None else offered + self.limits.waiting_members

    def add_offered(self, chunk: Chunk) -> None:
        """Add a chunk that is about to be offered."""
        self.chunks[chunk.number] = chunk
        self.waiting.add(chunk.number)

    def remove_offered(self, chunk: Chunk) -> None:
        """Remove a chunk that has ended, or is to be offered again."""
        del self.chunks[chunk.number]
        self.waiting.discard(chunk.number)
        if chunk.reserved != NO_COSTS:
            self.reserved = minus(self.reserved, chunk.reserved)
            chunk.reserved = NO_COSTS

    def schedule_retry(self, due: float, index: int, attempts: int) -> None:
        heappush(self.retries, (due, index, attempts))

    def free(self) -> None:
        """Free what only a running task needs: it has ended."""
        self.chunks.clear()
        self.waiting.clear()
        self.looking.clear()
        self.reserved = NO_COSTS
        self.child_limits.clear()
        self.requeued.clear()
        self.retries.clear()
        self.parked.clear()
        self.careful = NO_RANGES
        self.deaths.clear()
        self.handles.clear()
        if self.waits is not None:
            self.waits.free()
        self.retrier_attempts.clear()
        self.taken = None
        if self.children is not None:
            self.children.clear()
            self.known_children = NO_RANGES

    def mode_of(self, index: int) -> Mode:
        """The mode in which a member runs next."""
        if index in self.deaths:
            return "alone"
        return "careful" if index in self.careful else "fast"

    def clear_suspects(self, ended: Spans) -> None:
        """Members that have ended are no longer suspects."""
        if self.careful:
            self.careful = self.careful.without(ended)
        if self.deaths:
            over = Ranges(ended)
            for index in [index for index in self.deaths if index in over]:
                del self.deaths[index]

    def handle_of(self, index: int, made: int) -> str | None:
        """The handle of the work that makes the next attempt of an open member; None if no worker has reported it.

        Args:
            made: attempts that the member has made.
        """
        attempt, handle = self.handles.get(index, (0, ""))
        return handle if attempt == made + 1 else None

    def forget_handles(self, ended: Spans) -> None:
        """The work of members that have ended is not adopted any more."""
        over = Ranges(ended)
        for index in [index for index in self.handles if index in over]:
            del self.handles[index]

    def forget_retries(self, ended: Spans) -> None:
        """Members that have ended, or begin anew, have used nothing of the budgets of retriers."""
        over = Ranges(ended)
        for index in [index for index in self.retrier_attempts if index in over]:
            del self.retrier_attempts[index]

    def admit_traceback(self, traceback: str, run_bytes_left: int) -> bool:
        """True if the task's budget and the run's allow the traceback of a failed member; uses up the task's."""
        if self.tracebacks is None:
            self.tracebacks = TracebackBudget()
        return self.tracebacks.admit(traceback, run_bytes_left)

    def release_traceback(self, traceback: str) -> None:
        """Return an admitted traceback to the task's budget: its member runs again."""
        if self.tracebacks is not None:
            self.tracebacks.release(traceback)

    def admit_retry_traceback(self, traceback: str | None) -> bool:
        """True if the task's budget allows the traceback of an attempt that is retried, and use it up."""
        if self.retry_tracebacks is None:
            self.retry_tracebacks = retry_budget()
        return self.retry_tracebacks.admit(traceback)


class LoopPhase(StrEnum):
    """What a loop that has begun does."""

    READING = "reading"
    """The shell reads the next items of `each`."""
    CHECKING = "checking"
    """`while` is to be evaluated, or the shell reads values that it compares."""
    RESTING = "resting"
    """The next iteration may start once its delay is over and the run is not paused."""
    RUNNING = "running"
    """The tasks of the running iteration have not all ended."""
    ENDING = "ending"
    """All of its tasks have ended; `until` is to be evaluated, or the shell reads values that it compares."""


EndedBy = Literal["condition", "items", "limit", "duration"]


@dataclass(slots=True)
class Collected:
    """The values of one key in the iterations so far: a JSON array of parts, see `reading.values`.

    Full pages are in the store; `pending` are the parts after them.
    """

    pages: list[tuple[int, int]] = field(default_factory=list)
    """Parts and bytes of each page."""
    pending: bytes = b""
    """Parts with commas between them."""
    pending_count: int = 0
    size: int = 0
    """Bytes of all values together."""
    has_references: bool = False
    """One of the parts is a reference."""


@dataclass(slots=True)
class LoopState:
    """The state of a loop that has begun: the scope of its running iteration, and what is left of those before.
    Its size does not depend on the number of iterations."""

    phase: LoopPhase = LoopPhase.CHECKING
    number: int = 0
    """Of the running or the next iteration, from 0: as many have ended."""
    values: dict[str, Value | Absent] = field(default_factory=dict)
    waiters: dict[str, list[Task]] = field(default_factory=dict)
    alternatives: dict[str, int] = field(default_factory=dict)
    """By key that tasks of the body produce: how many of these tasks have not ended without a value."""
    decided: Status | None = None
    """How the running iteration ends: `fail_fast` or `need` of the group has cancelled its other tasks."""
    open: int = 0
    """Tasks of the body that have not ended in the running iteration, those of inner loops not counted."""
    state: dict[str, Value] = field(default_factory=dict)
    last: dict[str, Value] = field(default_factory=dict)
    """The values of the last iteration that has ended."""
    item: Value | None = None
    """The item of the running iteration."""
    total: int | None = None
    """The number of items of `each`."""
    items: list[Json] = field(default_factory=list)
    """Some items, which the shell has read from the store, from number `items_from` on."""
    items_from: int = 0
    has_all_items: bool = False
    """No further items follow those."""
    began_at: float = 0.0
    """When the loop began, in seconds since the epoch."""
    due: float = 0.0
    """When the next iteration may start."""
    started_at: float = 0.0
    """When the running iteration started."""
    collected: dict[str, Collected] = field(default_factory=dict)
    stored: dict[str, list[str]] = field(default_factory=dict)
    """By key under which a value is stored: the names of its parts in the store, which expire once nothing refers
    to the value."""
    counts: Counts = field(default_factory=Counts)
    """Members of the iterations that have ended."""
    is_broken: bool = False
    """An iteration has failed, and the loop with it."""
    ended_by: EndedBy | None = None
    resumed: int | None = None
    """The number of the iteration at which a retry goes on."""
    is_taken: bool = False
    """A fork has taken the values of its keys over, and nothing else."""
