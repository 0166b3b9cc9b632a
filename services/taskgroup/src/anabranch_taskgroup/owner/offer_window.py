"""Bounds the offers on the log that no worker has begun, and holds back the others in their order. Pure.

Workers order what they have read, so an owner leaves only as many offers of a lane unread as workers read ahead.
What it holds back is fair to keys: by the members that it has offered of each. A key of which only few offers
wait is not held back: so it waits for a worker, and not for the other keys of the lane.

Nothing of this is part of the owner's state: a new owner offers again what no worker has claimed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from anabranch.core.fair_queue import FairQueue
from anabranch.core.lanes import Priority, number_of
from anabranch_taskgroup.worker.offered import ChunkKey

MAX_WAITING = 256
"""Offers of one lane of this process that wait for a worker, beyond the first of each key."""
FEW = 4
"""Offers of one key that may wait for a worker, however many wait of others."""

T = TypeVar("T")


class LaneKey(NamedTuple):
    """The pool and the level of a lane, as a key that is quick to make."""

    pool: str
    priority: Priority


class _Held(NamedTuple, Generic[T]):
    key: ChunkKey
    path: Sequence[str]
    members: int
    what: T


@dataclass(slots=True)
class _LaneState(Generic[T]):
    waiting: int = 0
    by_key: Counter[str] = field(default_factory=Counter)
    """Offers that wait for a worker, by fairness key."""
    held: FairQueue[_Held[T]] = field(default_factory=FairQueue)
    is_closed: bool = False
    """The lane has no topic."""


class OfferWindow(Generic[T]):
    """The offers of one process. `T` is what the caller needs to offer a chunk later."""

    def __init__(self, most: int = MAX_WAITING) -> None:
        self._most = most
        self.waiting: dict[ChunkKey, tuple[LaneKey, str]] = {}
        """The chunks that are offered on the log and not begun, with their lane and fairness key."""
        self._lanes: dict[LaneKey, _LaneState[T]] = {}
        self._held: dict[ChunkKey, LaneKey] = {}
        """The chunks that are held back, with their lane. A queue may have a chunk that has moved to another
        lane since."""

    def admit(self, key: ChunkKey, lane: LaneKey, path: Sequence[str], members: int, what: T) -> bool:
        """True if a chunk may be offered on the log now; it then counts as waiting. Else it is held back.

        Args:
            path: the fairness key and the run.
        """
        if key in self.waiting:
            return True  # it is offered again
        if self._held.get(key) == lane:
            return False
        state = self._lanes.get(lane)
        if state is None:
            state = self._lanes[lane] = _LaneState()
        is_open = state.waiting < self._most and not state.held.size
        if not state.is_closed and (is_open or state.by_key[path[0]] < FEW):
            self._held.pop(key, None)
            # As `_count`, without a call.
            self.waiting[key] = lane, path[0]
            state.waiting += 1
            state.by_key[path[0]] += 1
            return True
        state.held.push(path, _Held(key, path, members, what), members)
        self._held[key] = lane
        return False

    def begun(self, key: ChunkKey) -> bool:
        """Note that a worker has begun a chunk, or returned it. Returns True if a chunk is held back that may be
        offered now."""
        found = self.waiting.pop(key, None)
        if found is None:
            return False
        lane, fairness_key = found
        state = self._lanes[lane]
        state.waiting -= 1
        state.by_key[fairness_key] -= 1
        if not state.by_key[fairness_key]:
            del state.by_key[fairness_key]
        return state.held.size > 0

    def release(self) -> Iterator[T]:
        """Yield what may be offered now, the highest level first. It counts as waiting."""
        for lane in sorted(self._lanes, key=lambda lane: -number_of(lane.priority)):
            state = self._lanes[lane]
            while state.held.size and state.waiting < self._most and not state.is_closed:
                key, path, _, what = state.held.pop().item
                if self._held.get(key) == lane:
                    del self._held[key]
                    self._count(state, lane, key, path[0])
                    yield what

    def close(self, lane: LaneKey) -> None:
        """Hold back all offers of a lane: it has no topic."""
        self._lanes.setdefault(lane, _LaneState()).is_closed = True

    def open(self, pool: str) -> None:
        """The lanes of a pool have topics."""
        for lane, state in self._lanes.items():
            if lane.pool == pool:
                state.is_closed = False

    def keep_only(self, waiting: Collection[ChunkKey]) -> None:
        """Forget the chunks of which no start will be reported: they ended without one, or have another owner."""
        for key in [key for key in self.waiting if key not in waiting]:
            self.begun(key)

    def retain(self, is_wanted: Callable[[T], bool]) -> None:
        """Drop what is held back and not wanted any more."""
        if self._held:
            for state in self._lanes.values():
                state.held.retain(lambda held: is_wanted(held.what))
            left = {held.key for state in self._lanes.values() for held in state.held}
            self._held = {key: lane for key, lane in self._held.items() if key in left}

    @property
    def held(self) -> int:
        """The number of chunks that are held back."""
        return len(self._held)

    def waits(self) -> Iterator[tuple[LaneKey, int]]:
        """The number of chunks of each lane that no worker has begun."""
        for lane, state in self._lanes.items():
            yield lane, state.waiting + len(state.held)

    def _count(self, state: _LaneState[T], lane: LaneKey, key: ChunkKey, fairness_key: str) -> None:
        self.waiting[key] = lane, fairness_key
        state.waiting += 1
        state.by_key[fairness_key] += 1
