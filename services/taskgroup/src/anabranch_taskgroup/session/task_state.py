"""The state of one task: its members, its chunks, and the results so far. Data with invariants, no decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappush

from anabranch.core.expansion.members import Expanded
from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import Failure, Mode, Spans, TaskOrder
from anabranch_taskgroup.session.states import ENDINGS, TaskState
from anabranch_taskgroup.session.traceback_limits import TracebackBudget, room_for_retries

TASK = "task"
"""Name of the kind of step that runs an agent."""


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
    lack_reported: bool = False
    """The event that says so was emitted, and no member has started since."""
    later_attempts: dict[int, int] = field(default_factory=dict)
    """Of sampled members that completed in a later attempt than the first, its number."""

    @property
    def name(self) -> str:
        return self.order.name

    @property
    def kind(self) -> str:
        """The name of its kind of step, see `steps.registry`. Every order is of a task so far."""
        return TASK

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

    def free(self) -> None:
        """Free what only a running task needs: it has ended."""
        self.chunks.clear()
        self.waiting.clear()
        self.requeued.clear()
        self.retries.clear()
        self.parked.clear()
        self.careful = Ranges()
        self.deaths.clear()
        self.expanded = None

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
