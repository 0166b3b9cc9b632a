"""What members take while they run in a trial: slots of workers, places of limits, tokens of rates. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from anabranch.core.forecast.work import Places, Rate, WorkTask

UNLIMITED = 1 << 40
SLOTS = "worker slots"
STEPS = 100
"""Members that wait for a rate are started in about this number of steps, unless they are fewer."""


class Pool:
    """Places; `waiting` are the tasks that found none."""

    __slots__ = ("free", "limit", "name", "peak", "waiting")

    def __init__(self, places: Places) -> None:
        self.name = places.name
        self.limit = self.free = places.limit
        self.peak = 0
        self.waiting: deque[int] = deque()

    def take(self, count: int) -> None:
        self.free -= count
        self.peak = max(self.peak, self.limit - self.free)


class Meter:
    """The tokens of a rate; `waiting` are the tasks that found too few."""

    __slots__ = ("_burst", "_tokens_at", "name", "per_second", "waiting")

    def __init__(self, rate: Rate) -> None:
        self.name = rate.name
        self.per_second = rate.per_second
        self._burst = float(rate.burst)
        self._tokens_at = (0.0, self._burst)
        self.waiting: deque[int] = deque()

    def tokens(self, now: float) -> float:
        """The tokens at a time."""
        at, tokens = self._tokens_at
        return min(self._burst, tokens + (now - at) * self.per_second)

    def take(self, count: int, now: float) -> None:
        self._tokens_at = (now, self.tokens(now) - count)

    def step(self, left: int) -> int:
        """How many of the members that wait are started at once."""
        return max(1, min(int(self._burst), left // STEPS))

    def seconds_until(self, count: int, now: float) -> float:
        """Until there are this number of tokens."""
        return max(0.0, count - self.tokens(now)) / self.per_second


class Resources:
    """All of them. Slot pool 0 is that of the workers."""

    def __init__(self, slots: int, pools: Sequence[Places], rates: Sequence[Rate]) -> None:
        self.slots = Pool(Places(SLOTS, slots))
        self.pools = [Pool(each) for each in pools]
        self.meters = [Meter(each) for each in rates]

    def lanes(self, task: WorkTask) -> int:
        """The most members of a task that run at once."""
        limits = [self.pools[number].limit for number in task.pools]
        return max(1, min([*limits, self.slots.limit if task.uses_slot else UNLIMITED]))

    def room(self, task: WorkTask, left: int, now: float) -> tuple[int, Pool | Meter | None]:
        """How many members of a task may start now, and what allows no more; None if all that are left may."""
        room = left
        bound: Pool | Meter | None = None
        if task.uses_slot and self.slots.free < room:
            room, bound = self.slots.free, self.slots
        for number in task.pools:
            if self.pools[number].free < room:
                room, bound = self.pools[number].free, self.pools[number]
        for number in task.rates:
            meter = self.meters[number]
            # Rounding errors of time must not cost a token, or a wait for it would never end.
            tokens = int(meter.tokens(now) + 1e-6)
            if tokens < room:
                room, bound = tokens if tokens >= meter.step(left) else 0, meter
        return room, bound

    def starts(self, task: WorkTask, left: int, now: float) -> int:
        """How many members of a task the rates allow to start now."""
        return min([left, *(int(self.meters[number].tokens(now) + 1e-6) for number in task.rates)])

    def take(self, task: WorkTask, width: int, starts: int, now: float) -> None:
        """Take what members need that run side by side, for a number of starts."""
        if task.uses_slot:
            self.slots.take(width)
        for number in task.pools:
            self.pools[number].take(width)
        for number in task.rates:
            self.meters[number].take(starts, now)

    def give_back(self, task: WorkTask, width: int) -> list[int]:
        """Give places back; returns the tasks that may have room now."""
        woken: list[int] = []
        if task.uses_slot:
            self.slots.free += width
        for number in task.pools:
            pool = self.pools[number]
            pool.free += width
            woken += [pool.waiting.popleft() for _ in range(min(width, len(pool.waiting)))]
        return woken
