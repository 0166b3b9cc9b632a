"""The events and waits of one address: the state of the owner of events. Data with invariants, no decisions. Pure.

What one event or one wait costs does not depend on the number of waits: those that can take an event are apart
from those that have as many as they want, each in the order in which they opened.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from anabranch.core.snapshots import RunTrail
from anabranch.core.wire.messages import Json

Place = tuple[str, str, str, tuple[int, ...], int]
"""A member that waits: run id, group, task, iteration, index."""
MAX_KEPT, MAX_KEPT_BYTES = 10_000, 16_000_000
"""Events of one address, and bytes of their data, that are kept. Further ones become dead letters."""
MAX_ENDED = 1_000
"""Waits of an address that are remembered once they have ended: a late repetition does not open them again."""
PURGE_SECONDS = 60.0
"""Seconds between two looks for what has expired at an address: a look costs as much as all that it has. What has
expired takes part in no decision, whether it was removed or not."""


@dataclass(slots=True)
class KeptEvent:
    """An event that has not expired. `data` is JSON; times are in seconds since the epoch."""

    number: int
    """Position of the publication on the log: distinguishes the events of the address."""
    event_id: str
    at: float
    expires: float
    data: bytes
    deliver: Literal["all", "one"] = "all"
    given: set[str] = field(default_factory=set)
    """Ids of the runs that have it, or to which it is under way."""
    is_claimed: bool = False
    """True if one of the waits that share events has it, or it is under way to one. Of an event for one run: if a
    run has it, or it is under way to one."""
    flights: set[Place] = field(default_factory=set)
    """The members to which it is under way: they have not answered."""


@dataclass(slots=True)
class EventWait:
    """A member that waits for events."""

    session_id: str
    admission: int
    order: int
    """Rises from one wait of the address to the next."""
    wanted: int
    """Number of events that it can take, besides those under way."""
    until: float
    when: Json = None
    deliver: Literal["all", "one"] = "all"
    flights: list[int] = field(default_factory=list)
    """Numbers of the events that are under way."""


@dataclass(slots=True)
class WaitQueue:
    """Waits in the order in which they opened."""

    hungry: dict[Place, EventWait] = field(default_factory=dict)
    """Those that can take an event."""
    full: dict[Place, EventWait] = field(default_factory=dict)
    """Those to which as many events are under way as they want."""

    def __len__(self) -> int:
        return len(self.hungry) + len(self.full)

    def find(self, place: Place) -> EventWait | None:
        return self.hungry.get(place) or self.full.get(place)

    def pop(self, place: Place) -> EventWait | None:
        return self.hungry.pop(place, None) or self.full.pop(place, None)

    def fill(self, place: Place) -> None:
        """The wait can take no further event."""
        self.full[place] = self.hungry.pop(place)

    def starve(self, place: Place) -> None:
        """The wait can take an event again. It keeps its turn."""
        wait = self.full.pop(place, None)
        if wait is not None:
            self.hungry[place] = wait
            self.hungry = dict(sorted(self.hungry.items(), key=lambda each: each[1].order))


@dataclass(slots=True)
class EventAddress:
    """Everything under one address. Its owner treats it as an open run: it has a pin, snapshots and a timer."""

    run_id: str
    """The address."""
    opened_at_offset: int
    events: dict[int, KeptEvent] = field(default_factory=dict)
    """By number, the oldest first."""
    bytes: int = 0
    """Of the data of the events."""
    every: dict[str, WaitQueue] = field(default_factory=dict)
    """By run id: waits of which each run gets an event."""
    shared: WaitQueue = field(default_factory=WaitQueue)
    """Waits of which one gets an event."""
    opened: int = 0
    """Number of waits that have opened."""
    ended: dict[Place, int] = field(default_factory=dict)
    """The waits that ended last, with the admissions of their runs."""
    due: float = inf
    """When something expires, or later; seconds since the epoch."""
    trail: RunTrail = field(default_factory=RunTrail, compare=False)
    """What the log has of the address: no part of its state."""
    numbers: list[int] = field(default_factory=list, compare=False)
    """Those of the events, for `from_cursor`. Derived: brought up to date where their count differs."""
    cursors: dict[str, int] = field(default_factory=dict, compare=False)
    """By run id, and under "" for waits that share events: no event up to this number is left for them. It only
    saves looks at events, and is no part of the state."""
    admission: int = 0
    """Of a run: an address has none."""

    @property
    def is_empty(self) -> bool:
        return not self.events and not self.every and not self.shared

    def queue(self, run_id: str, deliver: str) -> WaitQueue:
        """The queue for a wait of a run."""
        return self.shared if deliver == "one" else self.every.setdefault(run_id, WaitQueue())

    def find(self, place: Place) -> tuple[WaitQueue, EventWait] | None:
        """An open wait, and the queue that it is in."""
        for queue in (self.every.get(place[0]), self.shared):
            if queue is not None and (wait := queue.find(place)) is not None:
                return queue, wait
        return None

    def end(self, place: Place, admission: int) -> None:
        """A wait has ended. It is not opened again."""
        self.remove(place)
        self.ended[place] = admission
        if len(self.ended) > MAX_ENDED:
            del self.ended[next(iter(self.ended))]

    def remove(self, place: Place) -> None:
        """Remove a wait, if it is open."""
        queue = self.every.get(place[0])
        if queue is not None:
            queue.pop(place)
            if not queue:
                del self.every[place[0]]
        if self.shared:
            self.shared.pop(place)

    def add(self, event: KeptEvent) -> None:
        if len(self.numbers) == len(self.events):
            self.numbers.append(event.number)
        self.events[event.number] = event
        self.bytes += len(event.data)

    def drop(self, event: KeptEvent) -> None:
        self.numbers.clear()
        del self.events[event.number]
        self.bytes -= len(event.data)

    def from_cursor(self, scope: str) -> Iterator[KeptEvent]:
        """The events after the cursor of a scope, the oldest first."""
        if len(self.numbers) != len(self.events):
            self.numbers = list(self.events)
        for place in range(bisect_right(self.numbers, self.cursors.get(scope, -1)), len(self.numbers)):
            yield self.events[self.numbers[place]]

    def give_back(self, event: KeptEvent, scope: str) -> None:
        """An event is left for a scope again."""
        if self.cursors.get(scope, -1) >= event.number:
            self.cursors[scope] = event.number - 1

    def waits(self) -> Iterator[tuple[Place, EventWait]]:
        """All waits."""
        for queue in (*self.every.values(), self.shared):
            yield from queue.hungry.items()
            yield from queue.full.items()
