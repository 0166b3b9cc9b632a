"""The random source of a simulation, and the faults of single exchanges with a server.

Draws how long a message takes and whether it arrives. `faults` plans when whole processes or servers fail; this
module counts exchanges, so that a planned fault can strike during one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import Literal

from anabranch.ports import Outgoing
from anabranch.runtime.ownership.snapshots import is_snapshot

CallOutcome = Literal["done", "request lost", "response lost"]
UNCOUNTED = frozenset({"get", "subscribe"})
"""Exchanges that change nothing. They are not counted: a crash during one is equivalent to a crash during the
next."""
LATE_SECONDS = 8.0
"""Maximum delay of a repeated record: owners repeat effects within the loss window."""


@dataclass(slots=True)
class FaultRates:
    """Probability of each fault of an exchange, from 0 to 1. `slowness`: maximum usual latency in seconds."""

    lost_calls: float = 0.0
    repeats: float = 0.0
    lost_messages: float = 0.0
    double_messages: float = 0.0
    slow: float = 0.0
    slowness: float = 0.003
    late_snapshots: float = 0.0
    """Maximum seconds from the state in a snapshot to its record."""


class FaultInjector:
    """See the module. `cut`: names of the servers that are unreachable now."""

    def __init__(self, seed: int | str) -> None:
        self.random = Random(seed)
        self.rates = FaultRates()
        self.cut: set[str] = set()
        self.count = 0
        self._moments: list[int] = []
        self._strike: Callable[[str], bool] | None = None

    def plan(self, moments: Iterable[int], strike: Callable[[str], bool]) -> None:
        """Call `strike(process)` during the exchanges with these numbers: before a message is sent, or after the
        server has executed it. It returns True if the process is dead."""
        # Descending, so that the next moment is removed from the end.
        self._moments = sorted(moments, reverse=True)
        self._strike = strike

    def stop(self) -> None:
        """Stop all faults."""
        self.rates = FaultRates()
        self.cut.clear()
        self._moments.clear()

    def latency(self) -> float:
        """Draw the latency of a message, in seconds."""
        random = self.random.random
        usual = self.rates.slowness * random() + 0.0001
        return usual * 100 * random() if self.rates.slow and random() < self.rates.slow else usual

    def lateness(self, records: Sequence[Outgoing]) -> float:
        """Draw the seconds by which records are sent late: snapshots are, so that others come before them."""
        if not self.rates.late_snapshots or not any(is_snapshot(record) for record in records):
            return 0.0
        return self.rates.late_snapshots * self.random.random()

    def sends(self, process: str, name: str) -> bool:
        """True if a message leaves its process. A process that dies now may or may not have sent it."""
        if self._moments and name not in UNCOUNTED:
            return not self._counted(process) or self.random.random() < 0.5
        return True

    def served(self, process: str, name: str) -> None:
        """Count an executed call. The process may die before it receives the response."""
        if self._moments and name not in UNCOUNTED:
            self._counted(process)

    def _counted(self, process: str) -> bool:
        self.count += 1
        if self.count < self._moments[-1] or self._strike is None:
            return False
        self._moments.pop()
        return self._strike(process)

    def outcome(self, server: str) -> CallOutcome:
        """Draw the outcome of a call: executed, not received, or executed without a response."""
        if server in self.cut:
            return "request lost"
        if self.rates.lost_calls and self.random.random() < self.rates.lost_calls:
            return "response lost" if self.random.random() < 0.6 else "request lost"
        return "done"

    def copies(self) -> int:
        """Draw how often a channel message is delivered."""
        rates = self.rates
        if not (rates.lost_messages or rates.double_messages):
            return 1
        drawn = self.random.random()
        if drawn < rates.lost_messages:
            return 0
        return 2 if drawn > 1 - rates.double_messages else 1

    def repeats(self, record: Outgoing) -> float | None:
        """Draw the seconds after which a record is appended a second time; None: not at all."""
        if not self.rates.repeats or self.random.random() >= self.rates.repeats:
            return None
        # A pause repeated after its resume pauses the run again, and a repeated request without an id is a new
        # request: both are correct behaviour, so these records are not repeated.
        if record.topic.endswith("requests") or b'"pause' in record.value[:200]:
            return None
        return self.random.random() * LATE_SECONDS
