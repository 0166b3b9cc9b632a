"""Draws the faults of a simulation, and when each strikes, from the seed before the simulation begins. Pure.

A fault strikes at a time, or during an exchange with a server that is chosen by its number. The second way reaches
processes between any two of their steps.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation

from anabranch.testing.simulator.fault_injector import FaultRates

STRIKES = {
    "kill": "a process is killed between two steps and started again later",
    "freeze": "a process is suspended, possibly for longer than its session timeout, and then resumes",
    "expel": "a process loses its partitions, but notices it only later",
    "restart": "a process is stopped gracefully and started again",
    "cut-store": "the store is unreachable for a while",
    "cut-log": "the log is unreachable for a while",
    "refuse": "the store refuses writes for a while",
    "old-store": "the store restarts with data that is a second old",
    "empty-store": "the store restarts empty",
    "clock": "the wall clock of a process jumps",
}
"""Faults that strike a process or a server once."""
RATES = {
    "lost-calls": "calls to a server fail, some of them after the server has executed them",
    "repeats": "records are appended a second time, later, at another offset",
    "messages": "channel messages are lost or delivered twice",
    "slow": "some exchanges take a hundred times as long, so records on different topics overtake each other",
}
"""Faults of single exchanges, which happen at a rate."""
EDGES = {
    "small-records": "topics allow only small records, while values and items are large",
    "deep-values": "values of agents and external keys are nested as deeply as the limit allows, or deeper",
    "settings": "limits differ between processes and change when a process is started again",
    "clocks": "the clocks of processes differ from the broker's by minutes",
    "ids-again": "request ids are reused after their retention, with the same body or a different one",
    "older-store": "the store restarts with data that is seconds or minutes old",
    "part-store": "some keys of the store go back to a state of seconds or minutes ago",
    "trim": "partitions lose their first records, and their owners are killed",
    "recreate": "topics are deleted and created again, while the store keeps its data",
}
"""Faults and conditions of seeds from `edges.EDGES_FROM` on."""
LONG_RUNS = {
    "snapshots": "owners append snapshots after seconds, and runs are idle for longer",
    "late-snapshots": "snapshots are appended seconds after their state was encoded",
    "retain": "retention removes the records that no takeover needs, and owners are killed",
}
"""Conditions and faults of seeds from `long_runs.LONG_FROM` on."""
FAULTS = (*STRIKES, *RATES, *EDGES, *LONG_RUNS)
HORIZON = 40.0
"""Seconds after which no new fault happens."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault.

    Attributes:
        at: time at which it strikes, in seconds, if `moment` is None.
        moment: number of the exchange during which it strikes.
        seconds: its duration.
        victim: from 0 to 1; picks the process if `moment` does not.
        size: from -1 to 1; the extent of a clock jump.
    """

    kind: str
    at: float
    moment: int | None
    seconds: float
    victim: float
    size: float


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All faults of a simulation."""

    strikes: tuple[Strike, ...]
    rates: FaultRates
    edges: frozenset[str] = frozenset()
    """Names of `EDGES` and `LONG_RUNS`."""

    @property
    def loses_store(self) -> bool:
        """True if the store restarts empty or with older data."""
        return any(strike.kind.endswith("-store") and strike.kind != "cut-store" for strike in self.strikes)


def make_plan(random: Random, faults: Collection[str]) -> FaultPlan:
    """Draw a plan with some of these faults: few in most seeds, many in some."""
    allowed = [fault for fault in (*STRIKES, *RATES) if fault in faults]
    chosen = [fault for fault in allowed if random.random() < random.choice((0.15, 0.4, 0.8))]
    strikes = [
        strike_of(random, kind) for kind in chosen if kind in STRIKES for _ in range(random.choice((1, 1, 2, 3)))
    ]
    return FaultPlan(tuple(sorted(strikes, key=lambda strike: strike.at)), _rates(random, chosen))


def strike_of(random: Random, kind: str) -> Strike:
    """Draw the time, the victim and the duration of a fault."""
    in_exchange = random.random() < 0.7
    return Strike(
        kind=kind,
        # Most runs end within a few seconds, so many faults strike early.
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
