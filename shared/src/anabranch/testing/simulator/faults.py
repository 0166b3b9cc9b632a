"""Which faults a simulation has, and when each strikes: drawn from the seed before it begins. Pure.

A fault strikes at a time, or in the midst of a certain exchange with a server; the second kind finds processes
between any two steps of what they do.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation

from anabranch.testing.simulator.nature import FaultRates

STRIKES = {
    "kill": "a process is gone between two steps, and started anew after a while",
    "freeze": "a process stands still, also for longer than its session, and then goes on as if nothing were",
    "expel": "a process loses its partitions and learns of it only later",
    "restart": "a process is stopped in good order and started anew",
    "cut-store": "nobody reaches the store for a while",
    "cut-log": "nobody reaches the log for a while",
    "refuse": "the store takes no writes for a while",
    "old-store": "the store comes back as it was a second ago",
    "empty-store": "the store comes back empty",
    "clock": "a process's wall clock jumps",
}
RATES = {
    "lost-calls": "a call to a server gets no answer, done or not",
    "repeats": "a record is appended once more, later, under another offset",
    "messages": "channel messages are lost, or come twice",
    "slow": "some exchanges take a hundred times as long, so topics overtake each other",
}
EDGES = {
    "small-records": "topics take small records, and values and items are large",
    "deep-values": "agents return, and keys from outside have, values at and over the limit of depth",
    "settings": "limits differ between processes and change when one is started again",
    "clocks": "the clocks of processes differ from the broker's by minutes",
    "ids-again": "request ids come again after their retention, with the same body or another",
    "older-store": "the store comes back as it was seconds or minutes ago",
    "part-store": "a part of the store's keys comes back as it was seconds or minutes ago",
    "trim": "partitions lose their first records, and their owners die",
    "recreate": "topics are deleted and created again, and the store is kept",
}
"""Drawn for seeds from `edges.EDGES_FROM` on only."""
FAULTS = (*STRIKES, *RATES, *EDGES)
HORIZON = 40.0
"""Seconds after which nothing new goes wrong."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault: `moment` is the number of the exchange that it strikes in, `at` the time where there is none."""

    kind: str
    at: float
    moment: int | None
    seconds: float
    """How long it lasts."""
    victim: float
    """Picks the process, from 0 to 1, where the moment does not."""
    size: float
    """From -1 to 1."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All that will go wrong."""

    strikes: tuple[Strike, ...]
    rates: FaultRates
    edges: frozenset[str] = frozenset()
    """Names of `EDGES`."""

    @property
    def loses_store(self) -> bool:
        """Whether the store comes back empty or older."""
        return any(strike.kind.endswith("-store") and strike.kind != "cut-store" for strike in self.strikes)


def make_plan(random: Random, faults: Collection[str]) -> FaultPlan:
    """Draw a plan of some of these faults: most seeds have a few of them, some have many."""
    allowed = [fault for fault in (*STRIKES, *RATES) if fault in faults]
    chosen = [fault for fault in allowed if random.random() < random.choice((0.15, 0.4, 0.8))]
    strikes = [
        strike_of(random, kind) for kind in chosen if kind in STRIKES for _ in range(random.choice((1, 1, 2, 3)))
    ]
    return FaultPlan(tuple(sorted(strikes, key=lambda strike: strike.at)), _rates(random, chosen))


def strike_of(random: Random, kind: str) -> Strike:
    """Draw when a fault strikes, whom, and for how long."""
    in_exchange = random.random() < 0.7
    return Strike(
        kind=kind,
        at=random.random() * random.choice((3.0, 10.0, HORIZON)),
        moment=random.randint(1, random.choice((40, 150, 400))) if in_exchange else None,
        seconds=random.choice((0.2, 1.0, 3.0, 8.0, 15.0)) * (0.5 + random.random()),
        victim=random.random(),
        size=random.uniform(-1, 1),
    )


def _rates(random: Random, chosen: Collection[str]) -> FaultRates:
    rates = FaultRates()
    if "lost-calls" in chosen:
        rates.lost_calls = random.choice((0.005, 0.02, 0.08))
    if "repeats" in chosen:
        rates.repeats = random.choice((0.01, 0.05, 0.2))
    if "messages" in chosen:
        rates.lost_messages = random.choice((0.1, 0.5, 1.0))
        rates.double_messages = random.choice((0.0, 0.2))
    if "slow" in chosen:
        rates.slow = random.choice((0.02, 0.1, 0.3))
    return rates
