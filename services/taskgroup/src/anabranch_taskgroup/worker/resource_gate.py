"""Admits offered chunks to a worker only where what they require fits beside what runs there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from anabranch.core.request.resources import Requires
from anabranch.core.requirements import RESOURCES, Offers, fits, fits_now
from anabranch.core.wire.messages import Offer
from anabranch.ports import Clock
from anabranch_taskgroup.worker.offered import ChunkKey, Offered, chunk_key

MAX_WAITING = 256
"""Offers that may wait for room in one worker; the owner offers any further one again."""
OVERTAKING_SECONDS = 5.0
"""How long later offers may overtake one that waits for room. After that, room is kept free for it."""


class _Waiting(NamedTuple):
    offered: Offered
    since: float


class Admitted(NamedTuple):
    """Offers by what follows: `claim` them now, or hand them `back` because the worker will never have room.
    Others wait here, or are dropped."""

    claim: Sequence[Offered]
    back: Sequence[Offer]


class ResourceGate:
    """What a worker offers, what its chunks hold of it, and the offers that wait for room.

    Invariant: the amounts that are held never exceed what the worker offers.
    """

    def __init__(self, offers: Offers, clock: Clock) -> None:
        self._offers = offers
        self._clock = clock
        self._held: dict[ChunkKey, Requires] = {}
        self._used = dict.fromkeys(RESOURCES, 0)
        self._waiting: dict[ChunkKey, _Waiting] = {}

    @property
    def used(self) -> Mapping[str, int]:
        """The amounts that are held, by resource."""
        return self._used

    @property
    def is_empty(self) -> bool:
        """True if nothing is held, and nothing waits."""
        return not self._held and not self._waiting

    def admit(self, offers: Sequence[Offered], knows: Callable[[str], bool]) -> Admitted:
        """Divide offers, and hold the resources of those that are to be claimed. Those of agents that the worker
        lacks need none: the claim hands them back."""
        claim: list[Offered] = []
        back: list[Offer] = []
        for offered in offers:
            requires, key = offered.offer.requires, chunk_key(offered.offer)
            if requires is None or not knows(offered.offer.agent):
                claim.append(offered)
            elif key in self._held or key in self._waiting:
                continue  # the owner offers a chunk again that nobody has claimed yet
            elif not fits(requires, self._offers):
                # One that was offered before may wait in a worker that has room soon: its delivery stays.
                if not offered.offer.again:
                    back.append(offered.offer)
            elif self._may_pass(requires):
                self._hold(key, requires)
                claim.append(offered)
            elif len(self._waiting) < MAX_WAITING:
                self._waiting[key] = _Waiting(offered, self._clock.monotonic())
        return Admitted(claim, back)

    def give_back(self, key: ChunkKey) -> bool:
        """Stop holding the resources of a chunk. True if offers may fit now that wait."""
        requires = self._held.pop(key, None)
        if requires is None:
            return False
        for name in RESOURCES:
            self._used[name] -= requires.amount(name)
        return bool(self._waiting)

    def take_waiting(self) -> list[Offered]:
        """The offers that fit now, the longest waiting first; their resources are held."""
        found: list[Offered] = []
        for key, each in list(self._waiting.items()):
            requires = each.offered.offer.requires
            assert requires is not None, "only such offers wait"
            if fits_now(requires, self._offers, self._used):
                del self._waiting[key]
                self._hold(key, requires)
                found.append(each.offered)
            elif self._is_first_in_line(each):
                break  # nothing overtakes it any more
        return found

    @property
    def waiting(self) -> list[Offer]:
        """The offers that wait for room."""
        return [each.offered.offer for each in self._waiting.values()]

    def forget(self, key: ChunkKey) -> None:
        """Let an offer wait no more, because another worker has claimed its chunk."""
        self._waiting.pop(key, None)

    def close(self) -> None:
        """Let no offer wait any more. The owner offers their chunks to other workers."""
        self._waiting.clear()

    def _may_pass(self, requires: Requires) -> bool:
        first = next(iter(self._waiting.values()), None)
        if first is not None and self._is_first_in_line(first):
            return False
        return fits_now(requires, self._offers, self._used)

    def _is_first_in_line(self, waiting: _Waiting) -> bool:
        return self._clock.monotonic() - waiting.since >= OVERTAKING_SECONDS

    def _hold(self, key: ChunkKey, requires: Requires) -> None:
        self._held[key] = requires
        for name in RESOURCES:
            self._used[name] += requires.amount(name)
