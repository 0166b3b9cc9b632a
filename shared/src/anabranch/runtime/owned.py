"""One partition that is owned: its state, what is queued for it, and how far it is. Data, no decisions."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from anabranch.core.offsets import TrailingCommit
from anabranch.ports import Committed
from anabranch.runtime.backlog import MOST_BYTES, NARROW_BYTES, Backlog
from anabranch.runtime.guard import DecisionGuard
from anabranch.runtime.replay import Replay, ReplayFrom
from anabranch.runtime.stall import Progress

S = TypeVar("S")

MOST_QUEUED = 4_000


@dataclass(slots=True)
class Mark:
    """What may be committed once `offset` is old enough."""

    offset: int
    replay_from: int


@dataclass
class Owned(Generic[S]):
    """One partition that is owned."""

    number: int
    state: S
    replay: Replay
    epoch: int
    store: str
    """The identity of the store when the partition was taken over."""
    trailing: TrailingCommit
    rebuild: ReplayFrom
    guard: DecisionGuard
    queue: Backlog = field(default_factory=lambda: Backlog(MOST_QUEUED, NARROW_BYTES))
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    marks: deque[Mark] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    paused: bool = False
    is_caught_up: bool = False
    is_marked: bool = False
    position: int = -1
    replay_from: int = 0
    last_commit: Committed | None = None
    is_uncommitted: bool = False
    closing: bool = False
    progress: Progress = field(init=False)

    @classmethod
    def taken_over(
        cls,
        number: int,
        state: S,
        replay: Replay,
        epoch: int,
        store: str,
        guard: DecisionGuard,
        committed: Committed | None,
        *,
        is_marked: bool,
        loss_window: float,
        rebuild_window: float,
        now: float,
    ) -> Owned[S]:
        """A partition as it is when it was claimed. Windows are in seconds; `now` is monotonic."""
        rebuild = ReplayFrom(rebuild_window)
        rebuild.note(replay.start or 0, now)
        return cls(
            number=number,
            state=state,
            replay=replay,
            epoch=epoch,
            store=store,
            trailing=TrailingCommit(loss_window),
            rebuild=rebuild,
            guard=guard,
            is_marked=is_marked,
            last_commit=committed,
        )

    def __post_init__(self) -> None:
        self.progress = Progress(self.queue, self.replay.start or 0)

    def caught_up(self) -> None:
        """What comes from here on is new, and not of every partition at once."""
        self.is_caught_up = True
        self.queue.most_bytes = MOST_BYTES
