"""The offers that a worker has read and not begun: by level, then fair to keys, then fair to runs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from anabranch.core.fair_queue import FairQueue
from anabranch.core.lanes import PRIORITIES, Lane, Priority
from anabranch.core.wire.messages import Offer
from anabranch.ports import Incoming
from anabranch_taskgroup.worker.level_turns import LevelTurns
from anabranch_taskgroup.worker.offered import ChunkKey, Offered, chunk_key


@dataclass(frozen=True, slots=True)
class QueuedOffer:
    """A record of an offer; `offered` is None if it cannot be decoded, for the reason in `problem`."""

    lane: Lane
    record: Incoming
    offered: Offered | None
    problem: str = ""


class OfferQueue:
    """The offers of all lanes of one worker."""

    def __init__(self) -> None:
        self._levels: dict[Priority, FairQueue[QueuedOffer]] = {each: FairQueue() for each in PRIORITIES}
        self._waiting: list[Priority] = []
        """The levels that have offers."""
        self._turns = LevelTurns()
        self.size = 0
        """The number of offers."""
        self._keys: set[tuple[Priority, ChunkKey]] = set()

    def __len__(self) -> int:
        return self.size

    def push(self, queued: QueuedOffer) -> bool:
        """Add an offer; one that cannot be decoded counts as one of the level of its lane. Returns False for the
        repetition of an offer that is in the queue, which is not added."""
        if queued.offered is None:
            priority, path, cost = queued.lane.priority, ("", ""), 1
        else:
            offer = queued.offered.offer
            # Fair among its keys first, then among the runs of each.
            priority, path, cost = offer.priority, (offer.fairness_key, offer.run_id), members_of(offer)
            key = priority, chunk_key(offer)
            if key in self._keys:
                return False
            self._keys.add(key)
        level = self._levels[priority]
        if not level.size:
            self._waiting.append(priority)
        level.push(path, queued, cost)
        self.size += 1
        return True

    def pop(self) -> QueuedOffer:
        """Remove and return the offer whose turn it is. Raises ValueError if there is none."""
        waiting = self._waiting
        priority = waiting[0] if len(waiting) == 1 else self._turns.following(waiting)
        self._turns.begun(priority, waiting)
        level = self._levels[priority]
        found = level.pop().item
        if not level.size:
            self._waiting.remove(priority)
        self.size -= 1
        if found.offered is not None:  # as `_forget`, without a call
            self._keys.discard((found.offered.offer.priority, chunk_key(found.offered.offer)))
        return found

    def refused(self, offers: Iterable[Offer]) -> None:
        """Give a turn back for each of these offers, which were popped, and whose chunks another worker has: an
        offer that waits for long is on several workers. Else the turns of a low level could all go to those."""
        for offer in offers:
            if offer.priority in self._waiting:
                self._turns.repeat(offer.priority, self._waiting)

    def following(self) -> QueuedOffer:
        """What `pop` would return. Raises ValueError if the queue is empty."""
        return self._levels[self._turns.following(self._waiting)].peek()

    def _forget(self, queued: QueuedOffer) -> None:
        if queued.offered is not None:
            offer = queued.offered.offer
            self._keys.discard((offer.priority, chunk_key(offer)))

    def may_overtake(self, priority: Priority, path: Sequence[str], members: int) -> bool:
        """True if a chunk that is not in the queue may begin before all offers that are. It then counts as
        begun."""
        if not self.size:
            return True
        waiting = self._waiting if priority in self._waiting else [*self._waiting, priority]
        level = self._levels[priority]
        if self._turns.following(waiting) != priority or not level.comes_first(path):
            return False
        self._turns.begun(priority, waiting)
        level.charge(path, members)
        return True

    def retain(self, is_wanted: Callable[[QueuedOffer], bool]) -> None:
        """Remove the offers for which `is_wanted` is false."""

        def retains(queued: QueuedOffer) -> bool:
            if is_wanted(queued):
                return True
            self._forget(queued)
            return False

        for level in self._levels.values():
            if level:
                level.retain(retains)
        self._waiting = [priority for priority in self._waiting if self._levels[priority]]
        self.size = sum(map(len, self._levels.values()))


def members_of(offer: Offer) -> int:
    """The number of members of an offer."""
    members = 0
    for start, stop in offer.spans:
        members += stop - start
    return members
