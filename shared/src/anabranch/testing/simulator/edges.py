"""Draws the edge cases of a seed: sizes, depths, clocks, settings, reused ids, data loss. Pure.

For seeds from `EDGES_FROM` on; `long_runs` draws those of seeds from `LONG_FROM` on. They are drawn from a random
source of their own, so that lower seeds are not affected.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation

from anabranch.ports import TopicSpec
from anabranch.runtime.process.settings import Settings
from anabranch.testing.simulator.faults import EDGES, FaultPlan, Strike, strike_of
from anabranch.testing.simulator.long_runs import LATE_SECONDS, LONG_FROM, SnapshotTimes, draw_long

EDGES_FROM = 2_000_000
SHARES = {"trim": 0.12, "recreate": 0.12}
"""Share of the seeds with a fault; `USUAL_SHARE` for the others. Loss of the log is rare, because fewer promises
can be checked then."""
USUAL_SHARE = 0.3
LOSSES = frozenset(("trim", "recreate"))
STRIKING = ("older-store", "part-store", "trim", "recreate")
SNAPSHOT_SECONDS = (10.0, 20.0, 45.0, 75.0, 240.0)
TIMEOUTS = (20.0, 40.0, 60.0)
"""Timeouts of requests, in seconds, in seeds that check deadlines."""
RECORD_BYTES = (50_000, 60_000, 120_000, 400_000, 1_000_000)
MIN_REQUEST_BYTES = 400_000
"""Minimum record limit of `requests` and `runs`: a submission must fit into one record."""
FIRST_OFFSETS = (0, 5_000)
INLINE_BYTES = (400, 5_000, 65_536)


@dataclass(frozen=True)
class Edges:
    """The edge cases of a seed. `chosen`: names from `faults.EDGES`."""

    seed: str
    chosen: frozenset[str] = frozenset()
    strikes: tuple[Strike, ...] = ()
    result_ttl: float | None = None
    snapshots: SnapshotTimes | None = None
    """When owners append snapshots; None: as by default."""
    skews: Mapping[str, float] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.chosen

    @cached_property
    def random(self) -> Random:
        """Random source for choices that depend on the workload."""
        return Random(f"{self.seed} workload")

    @property
    def loses_log(self) -> bool:
        """True if the log loses records. Runs whose records are lost end as failed."""
        return bool(self.chosen & LOSSES)

    @property
    def may_repeat(self) -> bool:
        """True if a request may be admitted again with the same id."""
        return self.loses_log or bool(self.chosen & {"ids-again", "older-store", "part-store"})

    def spec(self, spec: TopicSpec) -> TopicSpec:
        """A topic with its record limit in this seed."""
        if "small-records" not in self.chosen:
            return spec
        # A random source for each topic: the result does not depend on the order of calls.
        limit = Random(f"{self.seed} {spec.name}").choice(RECORD_BYTES)
        if spec.name.endswith(("requests", "runs")):
            limit = max(limit, MIN_REQUEST_BYTES)
        return replace(spec, config={**spec.config, "max.message.bytes": str(limit)})

    def settings(self, settings: Settings, process: str, incarnation: int) -> Settings:
        """The settings of a process in one of its incarnations."""
        if self.result_ttl is not None:
            settings = replace(settings, result_ttl=self.result_ttl)
        if self.snapshots is not None:
            settings = replace(settings, **self.snapshots.settings)
        if "settings" not in self.chosen:
            return settings
        return replace(settings, inline_limit=Random(f"{self.seed} {process}.{incarnation}").choice(INLINE_BYTES))

    def skew(self, process: str) -> float:
        """Seconds by which the clock of a process is ahead of the broker's."""
        if "clocks" not in self.chosen:
            return 0.0
        random = Random(f"{self.seed} clock of {process}")
        return random.choice((0.0, -1.0, 1.0)) * random.choice((70.0, 300.0, 1_200.0))

    @property
    def first_offset(self) -> int:
        """First offset of topics. A recreated topic begins at 0: far below the deleted one, or at the same
        offset."""
        return Random(f"{self.seed} first offset").choice(FIRST_OFFSETS) if "recreate" in self.chosen else 0

    def snapshot_seconds(self) -> float:
        """Maximum age of the state to which the store can revert, in seconds."""
        return max(SNAPSHOT_SECONDS) if self.chosen & {"older-store", "part-store"} else 1.0


def draw_edges(seed: int, faults: Collection[str]) -> Edges:
    """Draw the edge cases of a seed from the faults that may happen."""
    if seed < EDGES_FROM:
        return Edges(str(seed))
    if seed >= LONG_FROM:
        found, removals, times = draw_long(seed, faults)
        return Edges(str(seed), found, removals, snapshots=times if "snapshots" in found else None)
    random = Random(f"{seed} edges")
    drawn = [name for name in EDGES if random.random() < SHARES.get(name, USUAL_SHARE)]
    chosen = frozenset(name for name in drawn if name in faults)
    strikes = [strike_of(random, kind) for kind in STRIKING for _ in range(random.choice((1, 1, 2)))]
    return Edges(
        seed=str(seed),
        chosen=chosen,
        strikes=tuple(each for each in strikes if each.kind in chosen),
        result_ttl=random.choice((90.0, 150.0)) if "ids-again" in chosen else None,
    )


def with_edges(plan: FaultPlan, edges: Edges) -> FaultPlan:
    """The plan with the strikes of a seed's edge cases."""
    # Values that the store lost can be restored only from records that the log still has.
    if "late-snapshots" in edges:
        plan.rates.late_snapshots = LATE_SECONDS
    kept = [each for each in plan.strikes if each.kind != "empty-store" or "retain" not in edges]
    strikes = sorted((*kept, *edges.strikes), key=lambda strike: strike.at)
    return replace(plan, strikes=tuple(strikes), edges=edges.chosen)
