"""What a task holds of limits that runs share, and what it waits for. Data with invariants, no decisions."""

from __future__ import annotations

from dataclasses import dataclass, field

from anabranch.core.limit_addresses import LimitKind
from anabranch_taskgroup.session.chunk_state import Chunk


@dataclass(slots=True)
class LimitWish:
    """A chunk that waits for the grant of one of its limits. It is neither offered nor queued meanwhile."""

    chunk: Chunk
    stage: int
    """Number of the limit among those of the task: the grants of the ones before it are there."""
    address: str
    amount: int
    """Members that were asked for."""
    since: float
    """Since when the members wait, in seconds since the epoch."""
    granted: int = 0
    """Members that have gone on, of all answers together."""


@dataclass(slots=True)
class LimitHolding:
    """Places that a chunk holds while it runs."""

    address: str
    amount: int
    chunk: int
    fence: int
    since: float
    kind: LimitKind = "concurrency"
    passed: int = 0
    """Of a breaker: the attempts under the grant that have passed so far, and those that have failed."""
    failed: int = 0
    has_news: bool = False
    """Its owner does not know all of them."""


@dataclass(slots=True)
class TaskLimits:
    """Of a task with limits, once it has begun. Wishes and holdings have the numbers by which the owner of the
    limit knows them."""

    count: int = 0
    """Number of wishes so far."""
    wishes: dict[int, LimitWish] = field(default_factory=dict)
    holdings: dict[int, LimitHolding] = field(default_factory=dict)

    @property
    def waiting_members(self) -> int:
        """Members of chunks that wait for a grant, as far as they would run at once."""
        return sum(wish.chunk.charge for wish in self.wishes.values())
