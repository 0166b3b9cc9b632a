"""The wishes and holders of one limit: the state of its owner. Data with invariants, no decisions. Pure."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from anabranch.core.snapshots import RunTrail
from anabranch.core.wire.messages import GrantHolder, LimitRule

Path = tuple[str, int, str, str, tuple[int, ...]]
"""A holder: run id, admission, group, task, iteration."""
Place = tuple[str, int, str, str, tuple[int, ...], int]
"""A wish of a holder: its path, and the number of the wish."""
MAX_ENDED = 1_000
"""Wishes of a limit that are remembered once they have ended: a late repetition is not granted again."""

STEP_SECONDS = 0.05
"""Seconds between two timers of a rate at least: a fast one grants the members of such a step at once."""


def path_of(holder: GrantHolder) -> Path:
    return holder.run_id, holder.admission, holder.group, holder.task, holder.iteration


@dataclass(slots=True)
class Wish:
    """Members that wait for a grant. `order` rises from one wish of the limit to the next."""

    session_id: str
    amount: int
    level: int
    since: float
    order: int
    seen: float
    """When it was repeated last, in seconds since the epoch."""
    rule: LimitRule
    granted: int = 0
    """Of a rate: members of it that have been granted."""

    def rank(self, place: Place) -> tuple[int, float, int, Place]:
        """The lowest is granted first."""
        return -self.level, self.since, self.order, place


@dataclass(slots=True)
class Holding:
    """Members that hold places."""

    session_id: str
    amount: int
    since: float
    """When it was granted, in seconds since the epoch."""
    seen: float
    """When it was repeated last."""
    is_revoked: bool = False
    passed: int = 0
    """Of a breaker: the attempts that have passed so far, and those that have failed."""
    failed: int = 0


@dataclass(slots=True)
class BreakerState:
    """Whether an agent is called: `closed` if it is, `half_open` if a few members try."""

    phase: Literal["closed", "open", "half_open"] = "closed"
    until: float = 0.0
    """Of an open one: when members try again, in seconds since the epoch."""
    outcomes: list[tuple[float, int, int]] = field(default_factory=list)
    """(time, attempts that passed, attempts that failed) of the last window; of a half-open one since then."""
    by_hand: bool = False
    """A person has opened it: `by`, for the `reason`."""
    by: str = ""
    reason: str = ""

    def count(self) -> tuple[int, int]:
        """Attempts that passed, and attempts that failed."""
        return sum(each[1] for each in self.outcomes), sum(each[2] for each in self.outcomes)


@dataclass(slots=True)
class LimitAddress:
    """Everything under the address of a limit. Its owner treats it as an open run: it has a pin, snapshots and a
    timer."""

    run_id: str
    """The address."""
    opened_at_offset: int
    rule: LimitRule
    """As the last wish had it."""
    check_at: float = inf
    """When silent holders are asked next, in seconds since the epoch."""
    holders: dict[Place, Holding] = field(default_factory=dict)
    held: int = 0
    """Members of all holders."""
    wishes: dict[Place, Wish] = field(default_factory=dict)
    queue: list[tuple[int, float, int, Place]] = field(default_factory=list)
    """The ranks of the wishes, the one that is granted next first."""
    opened: int = 0
    """Number of wishes so far."""
    ended: dict[Place, int] = field(default_factory=dict)
    """The wishes that ended last, with the members that were granted to them."""
    tokens: float = 0.0
    """Of a rate: members that may start at once, at `filled_at`."""
    filled_at: float = -inf
    """In seconds since the epoch."""
    blocked_until: float = 0.0
    """Nothing is granted before, in seconds since the epoch."""
    breaker: BreakerState | None = None
    """Of a breaker."""
    due: float = inf
    """When something is to be decided, or earlier; seconds since the epoch."""
    trail: RunTrail = field(default_factory=RunTrail, compare=False)
    """What the log has of the limit: no part of its state."""
    admission: int = 0
    """Of a run: a limit has none."""

    def add(self, place: Place, wish: Wish) -> None:
        self.wishes[place] = wish
        insort(self.queue, wish.rank(place))

    def hold(self, place: Place, holding: Holding) -> None:
        self.holders[place] = holding
        self.held += holding.amount

    def keep(self, place: Place, amount: int) -> int:
        """Lower what a wish holds to an amount; 0 ends it. Returns how much was given back."""
        holding = self.holders.get(place)
        if holding is None or holding.amount <= amount:
            return 0
        given_back = holding.amount - amount
        self.held -= given_back
        holding.amount = amount
        if not amount:
            del self.holders[place]
            self.remember(place, 0)
        return given_back

    def withdraw(self, place: Place) -> Wish | None:
        """Remove a wish that waits, if there is one."""
        wish = self.wishes.pop(place, None)
        if wish is not None:
            self.queue.remove(wish.rank(place))
            self.remember(place, wish.granted)
        return wish

    def remember(self, place: Place, granted: int) -> None:
        """A wish has ended."""
        self.ended[place] = granted
        if len(self.ended) > MAX_ENDED:
            del self.ended[next(iter(self.ended))]

    def fill(self, now: float) -> None:
        """Of a rate: add the tokens since the last call. A time before it adds none: records of several brokers
        may be out of order."""
        if self.filled_at == -inf:
            self.tokens, self.filled_at = self.capacity, now
        elif now > self.filled_at:
            added = (now - self.filled_at) * self.rule.limit / self.rule.per
            self.tokens, self.filled_at = min(self.capacity, self.tokens + added), now

    @property
    def capacity(self) -> float:
        """Of a rate: members that may start at once, at least those of one step of time."""
        return max(float(self.rule.burst), self.rule.limit * STEP_SECONDS / self.rule.per)

    def is_empty(self, now: float) -> bool:
        """True if the address may be dropped: a new one would decide in the same way."""
        if self.holders or self.wishes or self.blocked_until > now:
            return False
        if self.breaker is not None and (self.breaker.phase != "closed" or self.breaker.outcomes):
            return False
        if self.rule.kind != "rate" or self.filled_at == -inf:
            return True
        self.fill(now)
        return self.tokens >= self.capacity
