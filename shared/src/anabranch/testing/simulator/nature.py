"""The one random source of a simulation, and what goes wrong in each single exchange with a server.

It says how long a message takes and whether it arrives. When whole processes or servers fail is planned by
`faults`; this module counts the exchanges, so that a plan can strike in the midst of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import Literal

from anabranch.ports import Outgoing

Fate = Literal["done", "unheard", "unanswered"]
UNCOUNTED = frozenset({"get", "subscribe"})
"""Exchanges that change nothing: a process that dies in one might as well have died in the next."""
LATE_SECONDS = 8.0
"""Up to so much later a record is repeated: owners repeat what they did within the loss window."""


@dataclass(slots=True)
class FaultRates:
    """How often single exchanges go wrong, each from 0 to 1; `slowness` in seconds is the longest usual way."""

    lost_calls: float = 0.0
    repeats: float = 0.0
    lost_messages: float = 0.0
    double_messages: float = 0.0
    slow: float = 0.0
    slowness: float = 0.003


class Nature:
    """See the module. `cut` are the servers that nobody reaches now."""

    def __init__(self, seed: int | str) -> None:
        self.random = Random(seed)
        self.rates = FaultRates()
        self.cut: set[str] = set()
        self.count = 0
        self._moments: list[int] = []
        self._strike: Callable[[str], bool] | None = None

    def plan(self, moments: Iterable[int], strike: Callable[[str], bool]) -> None:
        """Call `strike(process)` in the exchanges of these numbers, before a message is sent or once it was
        obeyed; it says whether the process is gone."""
        self._moments = sorted(moments, reverse=True)
        self._strike = strike

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        self.rates = FaultRates()
        self.cut.clear()
        self._moments.clear()

    def latency(self) -> float:
        """Seconds that one way takes."""
        random = self.random.random
        usual = self.rates.slowness * random() + 0.0001
        return usual * 100 * random() if self.rates.slow and random() < self.rates.slow else usual

    def sends(self, process: str, name: str) -> bool:
        """Whether a message leaves its process: one that dies now may not have sent it."""
        if self._moments and name not in UNCOUNTED:
            return not self._counted(process) or self.random.random() < 0.5
        return True

    def served(self, process: str, name: str) -> None:
        """A server did what it was asked; the process may die before it hears of it."""
        if self._moments and name not in UNCOUNTED:
            self._counted(process)

    def _counted(self, process: str) -> bool:
        self.count += 1
        if self.count < self._moments[-1] or self._strike is None:
            return False
        self._moments.pop()
        return self._strike(process)

    def fate(self, server: str) -> Fate:
        """What becomes of a call that reached its server."""
        if server in self.cut:
            return "unheard"
        if self.rates.lost_calls and self.random.random() < self.rates.lost_calls:
            return "unanswered" if self.random.random() < 0.6 else "unheard"
        return "done"

    def copies(self) -> int:
        """How often a channel message arrives."""
        rates = self.rates
        if not (rates.lost_messages or rates.double_messages):
            return 1
        drawn = self.random.random()
        if drawn < rates.lost_messages:
            return 0
        return 2 if drawn > 1 - rates.double_messages else 1

    def repeats(self, record: Outgoing) -> float | None:
        """Seconds after which a record is appended once more, under another offset; None: it is not."""
        if not self.rates.repeats or self.random.random() >= self.rates.repeats:
            return None
        # A pause that comes after its resume would be obeyed, rightly; a request without an id is another one.
        if record.topic.endswith("requests") or b'"pause' in record.value[:200]:
            return None
        return self.random.random() * LATE_SECONDS
