"""One owned partition: its state, its queue and its position. Data, no decisions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from anabranch.core.admissions import log_position
from anabranch.core.offsets import TrailingCommit
from anabranch.core.wire.fragments import Assembler, has_fragment
from anabranch.ports import Committed, Incoming
from anabranch.runtime.ownership.bounded_queue import MAX_BYTES, NARROW_BYTES, BoundedQueue
from anabranch.runtime.ownership.handler import PartitionHandler
from anabranch.runtime.ownership.poison_records import PoisonRecordGuard
from anabranch.runtime.ownership.replay import DelayedReplayStart, Replay, open_from, position, restore_from
from anabranch.runtime.ownership.watchdog import Progress

S = TypeVar("S")

MAX_QUEUED = 4_000
RESTORE_WINDOW = 3_600.0
"""Seconds of effects that are repeated, besides those of runs without a snapshot, if the store is another one than
that of the commit: a part of the store may be as much older than its marks."""


@dataclass(slots=True)
class CommitPoint:
    """A commit that is made once `offset` is older than the loss window."""

    offset: int
    replay_from: int
    open_from: int
    """The lowest pin of the open runs; `offset` if no run is open."""


@dataclass
class OwnedPartition(Generic[S]):
    """One partition that is owned."""

    number: int
    state: S
    replay: Replay
    epoch: int
    """Offset of its claim."""
    generation: int
    """Of the log; see `core.admissions`."""
    store: str
    """The identity of the store when the partition was taken over."""
    trailing: TrailingCommit
    rebuild: DelayedReplayStart
    restoring: DelayedReplayStart
    """The start of a replay that repeats effects, because the store is another one than that of the commit."""
    guard: PoisonRecordGuard
    # Small until the claim is read: after a rebalance, the queues of all partitions fill at once.
    queue: BoundedQueue = field(default_factory=lambda: BoundedQueue(MAX_QUEUED, NARROW_BYTES))
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    commit_points: deque[CommitPoint] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    timer_armed_for: float = 0.0
    """The due time that `timer` waits for."""
    paused: bool = False
    is_caught_up: bool = False
    is_marked: bool = False
    fragments: Assembler = field(default_factory=Assembler)
    claimed: tuple[float, float] = (0.0, 0.0)
    """When the claim was published and when that was acknowledged, by this machine's clock."""
    timer_tries: int = 0
    """How often the due timer was appended without effect."""
    timer_due: float | None = None
    """The due time of the timer that was appended last."""
    expected: int = 0
    """The least offset that the next record may have."""
    position: int = -1
    replay_from: int = 0
    open_from: int = 0
    """Runs with a lower pin had ended where it was committed."""
    is_rebuilt: bool = False
    last_commit: Committed | None = None
    closing: bool = False
    progress: Progress = field(init=False)

    @classmethod
    def claimed_now(
        cls,
        number: int,
        state: S,
        replay: Replay,
        epoch: int,
        generation: int,
        store: str,
        guard: PoisonRecordGuard,
        committed: Committed | None,
        *,
        is_marked: bool,
        loss_window: float,
        rebuild_window: float,
        now: float,
    ) -> OwnedPartition[S]:
        """A partition right after its claim. Windows are in seconds; `now` is monotonic."""
        rebuild, restoring = DelayedReplayStart(rebuild_window), DelayedReplayStart(RESTORE_WINDOW)
        rebuild.note(replay.start or 0, now)
        restoring.note(min(restore_from(committed), replay.start or 0), now)
        return cls(
            number=number,
            state=state,
            replay=replay,
            epoch=epoch,
            generation=generation,
            store=store,
            trailing=TrailingCommit(loss_window),
            rebuild=rebuild,
            restoring=restoring,
            guard=guard,
            is_marked=is_marked,
            open_from=open_from(committed),
            last_commit=committed,
        )

    def __post_init__(self) -> None:
        self.progress = Progress(self.queue, self.replay.start or 0)

    @property
    def confirmed(self) -> Committed:
        """A position that is committed, or safe to commit: it commits nothing that may be lost."""
        if self.last_commit is not None:
            return self.last_commit
        return position(self.replay.committed, self.replay.start or 0, self.store, self.generation)

    def committable(self, now: float) -> Committed | None:
        """The position to commit; None if there is none. `now` is monotonic.

        The replay position advances even without new records. If it stayed, a later owner would read the opening
        of runs whose tombstones have expired meanwhile, and would open them again.
        """
        offset = self.trailing.committable(now)
        if offset is None:
            return None
        while self.commit_points and self.commit_points[0].offset <= offset:
            point = self.commit_points.popleft()
            self.replay_from, self.open_from = point.replay_from, point.open_from
        replay_from = self.rebuild.note(self.replay_from, now)
        restore_from = self.restoring.note(replay_from, now)
        return position(offset, replay_from, self.store, self.generation, self.open_from, restore_from)

    @property
    def fence_epoch(self) -> int:
        """The fencing token of its writes to the store. It rises even when the topic is created again, because the
        generation is above the offset."""
        return log_position(self.generation, self.epoch)

    def assembled(self, records: Sequence[Incoming]) -> Sequence[Incoming]:
        """The records; the last fragment of a message has the assembled message as its value."""
        if has_fragment([record.value for record in records]):
            assemble = self.fragments.whole
            records = [replace(each, value=assemble(each.value, each.offset, each.timestamp)) for each in records]
        # Also without new fragments: an incomplete message must not hold the replay position back for ever.
        if self.fragments:
            self.fragments.expire(records[-1].timestamp)
        return records

    def end_rebuild(self, handler: PartitionHandler[S]) -> bool:
        """Tell the handler, once, that all records before the commit were read, or that there are none. Returns
        False if the handler was told before."""
        if self.is_rebuilt:
            return False
        self.is_rebuilt = True
        handler.on_rebuilt(self.state, self.open_from)
        return True

    def end_replay(self) -> None:
        """The claim was reached: later records are new. The queue gets its full size, because partitions no longer
        fill all at once."""
        self.is_caught_up = True
        self.queue.max_bytes = MAX_BYTES
