"""The state of steps that wait, and of the signals of a run. Data with invariants, no decisions.

A step has one `OpenWaits` for all of its members. What it costs to end one member does not depend on how many
wait: times are in a heap, and members that wait for the same name are spans in the order of their indexes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush

from anabranch.core.ranges import Ranges, Spans
from anabranch.core.wire.messages import Json


@dataclass(slots=True)
class Vote:
    """One person's decision of an approval."""

    by: str
    decision: str
    at: float
    decision_id: str
    data: Json = None
    comment: str = ""


@dataclass(slots=True)
class OpenWaits:
    """The members of a step that wait, and those that have waited."""

    opened: int = 0
    """Members with an index below this have begun to wait; further ones follow page by page."""
    ended: Ranges = field(default_factory=Ranges)
    """Members that have ended, however. A span of the fields below may have such members, which count no more."""
    skipped: int = 0
    """Members that ended without a value and without a failure."""
    dues: list[tuple[float, int, int]] = field(default_factory=list)
    """Heap of (seconds since the epoch, start, stop): the members that a time ends."""
    names: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By name of a signal: the spans of members that wait for it, as a heap."""
    keys: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By correlation key of an event: the spans of members that wait for it."""
    taken: dict[int, list[int]] = field(default_factory=dict)
    """By member that waits for several events: the numbers of those that it has."""
    identifiers: dict[int, str] = field(default_factory=dict)
    """By member: its name in a `separate` join; other members are called by their index."""
    collected: dict[int, list[bytes]] = field(default_factory=dict)
    """By member that waits for several payloads: those that it has, as JSON."""
    collected_bytes: int = 0
    """Bytes of all payloads that members have collected, those of members that have ended included."""
    votes: dict[int, list[Vote]] = field(default_factory=dict)
    """By member that waits for an approval: the decisions that count, also those of members that have ended."""
    asked: dict[int, list[str]] = field(default_factory=dict)
    """By member: who may decide, where that differs between members."""

    seen: dict[str, tuple[Json, bool]] = field(default_factory=dict)
    """By key of the session, of a wait for a condition: the latest value, and whether it is a reference."""
    changes: int = 0
    """How many times a value of `seen` has changed, the begin of the wait included."""

    def open_in(self, start: int, stop: int) -> Spans:
        """The members of a span that have not ended."""
        return tuple(self.ended.missing(start, stop))

    def lowest_waiting(self, name: str) -> int | None:
        """The lowest member that waits for a signal; None if none does. Spans of ended members are dropped."""
        spans = self.names.get(name)
        while spans:
            start, stop = heappop(spans)
            left = next(self.ended.missing(start, stop), None)
            if left is not None:
                heappush(spans, (left[0], stop))
                return left[0]
        self.names.pop(name, None)
        return None

    def pop_due(self, now: float) -> list[tuple[float, int, int]]:
        """Remove and return the entries of `dues` whose time has come, in the order of their times."""
        found = []
        while self.dues and self.dues[0][0] <= now:
            found.append(heappop(self.dues))
        return found

    def free(self) -> None:
        """Free what only an open wait needs: its step has ended."""
        self.dues.clear()
        self.names.clear()
        self.keys.clear()
        self.taken.clear()
        self.identifiers.clear()
        self.collected.clear()
        self.asked.clear()
        self.seen.clear()


@dataclass(slots=True)
class KeptSignal:
    """A signal that no wait has taken yet; `data` is its value as JSON."""

    signal_id: str
    data: bytes


@dataclass(slots=True)
class Mailbox:
    """The signals of one name in a run: those that are kept, and the steps that wait for one."""

    kept: list[KeptSignal] = field(default_factory=list)
    """In the order of their arrival."""
    waiting: list[tuple[str, str]] = field(default_factory=list)
    """(group, task) of steps with members that wait for the name, in the order in which they began to."""


@dataclass(slots=True)
class Signals:
    """The signals of one run."""

    boxes: dict[str, Mailbox] = field(default_factory=dict)
    """By name. An empty mailbox is dropped."""
    kept: int = 0
    kept_bytes: int = 0
    known: dict[str, bool] = field(default_factory=dict)
    """Ids of the signals that were received, the latest `MAX_KNOWN`, in the order of their arrival."""

    def note(self, signal_id: str) -> bool:
        """Note the id of a signal. False if a signal of this id was received before."""
        if signal_id in self.known:
            return False
        self.known[signal_id] = True
        if len(self.known) > MAX_KNOWN:
            del self.known[next(iter(self.known))]
        return True

    def box(self, name: str) -> Mailbox:
        return self.boxes.setdefault(name, Mailbox())

    def drop_if_empty(self, name: str) -> None:
        box = self.boxes.get(name)
        if box is not None and not box.kept and not box.waiting:
            del self.boxes[name]


MAX_KNOWN = 20_000
MAX_KEPT = 10_000
MAX_KEPT_BYTES = 16_000_000
"""Most signals, and bytes of their values, that a run keeps for waits which may open. Further ones are refused."""
