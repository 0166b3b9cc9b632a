"""One partition that is owned: its state, what is queued for it, and how far it is. Data, no decisions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from anabranch.core.admissions import log_position
from anabranch.core.offsets import TrailingCommit
from anabranch.core.wire.fragments import Assembler, is_fragment
from anabranch.ports import Committed, Incoming
from anabranch.runtime.ownership.bounded_queue import MAX_BYTES, NARROW_BYTES, Backlog
from anabranch.runtime.ownership.handler import PartitionHandler
from anabranch.runtime.ownership.poison_records import PoisonRecordGuard
from anabranch.runtime.ownership.replay import Replay, ReplayFrom, open_from, position
from anabranch.runtime.ownership.watchdog import Progress

S = TypeVar("S")

MAX_QUEUED = 4_000


@dataclass(slots=True)
class CommitPoint:
    """What may be committed once `offset` is old enough."""

    offset: int
    replay_from: int
    open_from: int
    """Of the oldest run that is open there: the record that opened it. The offset itself where none is."""


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
    rebuild: ReplayFrom
    guard: PoisonRecordGuard
    queue: Backlog = field(default_factory=lambda: Backlog(MAX_QUEUED, NARROW_BYTES))
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    commit_points: deque[CommitPoint] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    paused: bool = False
    is_caught_up: bool = False
    is_marked: bool = False
    fragments: Assembler = field(default_factory=Assembler)
    claimed: tuple[float, float] = (0.0, 0.0)
    """When the claim was published and when that was acknowledged, by this machine's clock."""
    timer_tries: int = 0
    """How often the timer that is due was appended and took no effect."""
    timer_due: float | None = None
    """What the timer was for that was appended last."""
    expected: int = 0
    """The least offset that the next record may have."""
    position: int = -1
    replay_from: int = 0
    open_from: int = 0
    """Runs that records before this offset opened had ended where it was committed."""
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
        """A partition as it is when it was claimed. Windows are in seconds; `now` is monotonic."""
        rebuild = ReplayFrom(rebuild_window)
        rebuild.note(replay.start or 0, now)
        return cls(
            number=number,
            state=state,
            replay=replay,
            epoch=epoch,
            generation=generation,
            store=store,
            trailing=TrailingCommit(loss_window),
            rebuild=rebuild,
            guard=guard,
            is_marked=is_marked,
            open_from=open_from(committed),
            last_commit=committed,
        )

    def __post_init__(self) -> None:
        self.progress = Progress(self.queue, self.replay.start or 0)

    @property
    def confirmed(self) -> Committed:
        """A position that is committed already, or may be."""
        if self.last_commit is not None:
            return self.last_commit
        return position(self.replay.committed, self.replay.start or 0, self.store, self.generation)

    def committable(self, now: float) -> Committed | None:
        """What is to be committed, None for nothing; `now` is monotonic. Also where no records come, the place to
        rebuild from moves on: a later owner could no longer learn that runs before it have ended, and would open
        them again."""
        offset = self.trailing.committable(now)
        if offset is None:
            return None
        while self.commit_points and self.commit_points[0].offset <= offset:
            point = self.commit_points.popleft()
            self.replay_from, self.open_from = point.replay_from, point.open_from
        replay_from = self.rebuild.note(self.replay_from, now)
        return position(offset, replay_from, self.store, self.generation, self.open_from)

    @property
    def fence_epoch(self) -> int:
        """What its writes to the store are fenced by: it rises also over a log that was created again."""
        return log_position(self.generation, self.epoch)

    def assembled(self, records: Sequence[Incoming]) -> Sequence[Incoming]:
        """The records, the last fragment of a message with the whole of it."""
        if any(is_fragment(record.value) for record in records):
            assemble = self.fragments.whole
            records = [replace(each, value=assemble(each.value, each.offset, each.timestamp)) for each in records]
        if self.fragments:
            self.fragments.expire(records[-1].timestamp)
        return records

    def end_rebuild(self, handler: PartitionHandler[S]) -> None:
        """Tell the handler, once, that all records before the commit were read, or that there are none."""
        if not self.is_rebuilt:
            self.is_rebuilt = True
            handler.on_rebuilt(self.state, self.open_from)

    def end_replay(self) -> None:
        """What comes from here on is new, and not of every partition at once."""
        self.is_caught_up = True
        self.queue.most_bytes = MAX_BYTES
