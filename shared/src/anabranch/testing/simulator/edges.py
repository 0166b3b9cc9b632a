"""What lies at the edges of the promise: sizes, depths, clocks, settings, ids that come again, losses. Pure.

Seeds from `EDGES_FROM` on have some of it, drawn from a random source of their own: a seed below does what it did
without this module.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation

from anabranch.ports import TopicSpec
from anabranch.runtime.process.settings import Settings
from anabranch.testing.simulator.faults import EDGES, FaultPlan, Strike, strike_of

EDGES_FROM = 2_000_000
SHARES = {"trim": 0.12, "recreate": 0.12}
"""How often a fault is drawn; the others in `USUAL_SHARE` of the seeds. Only few lose the log: where it is lost,
less can be promised."""
USUAL_SHARE = 0.3
LOSSES = frozenset(("trim", "recreate"))
STRIKING = ("older-store", "part-store", "trim", "recreate")
SNAPSHOT_SECONDS = (10.0, 20.0, 45.0, 75.0, 240.0)
TIMEOUTS = (20.0, 40.0, 60.0)
"""Of requests in seeds in which they have to end by their deadline."""
RECORD_BYTES = (50_000, 60_000, 120_000, 400_000, 1_000_000)
LEAST_REQUEST_BYTES = 400_000
"""A submission has to be one record, so the topics that carry it are not made smaller."""
FIRST_OFFSETS = (0, 5_000)
INLINE_BYTES = (400, 5_000, 65_536)


@dataclass(frozen=True)
class Edges:
    """What of it a seed has. `chosen` are names of `faults.EDGES`."""

    seed: str
    chosen: frozenset[str] = frozenset()
    strikes: tuple[Strike, ...] = ()
    result_ttl: float | None = None
    skews: Mapping[str, float] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.chosen

    @cached_property
    def random(self) -> Random:
        """For what is drawn from the workload."""
        return Random(f"{self.seed} workload")

    @property
    def loses_log(self) -> bool:
        """Whether runs may be lost with the log: they end as failed then."""
        return bool(self.chosen & LOSSES)

    @property
    def may_repeat(self) -> bool:
        """Whether a request may be admitted again under the same id."""
        return self.loses_log or bool(self.chosen & {"ids-again", "older-store", "part-store"})

    def spec(self, spec: TopicSpec) -> TopicSpec:
        """A topic with the limit on records that it has in this seed."""
        if "small-records" not in self.chosen:
            return spec
        limit = Random(f"{self.seed} {spec.name}").choice(RECORD_BYTES)
        if spec.name.endswith(("requests", "runs")):
            limit = max(limit, LEAST_REQUEST_BYTES)
        return replace(spec, config={**spec.config, "max.message.bytes": str(limit)})

    def settings(self, settings: Settings, process: str, life: int) -> Settings:
        """The settings of a process in one of its lives."""
        if self.result_ttl is not None:
            settings = replace(settings, result_ttl=self.result_ttl)
        if "settings" not in self.chosen:
            return settings
        return replace(settings, inline_limit=Random(f"{self.seed} {process}.{life}").choice(INLINE_BYTES))

    def skew(self, process: str) -> float:
        """Seconds that the clock of a process is ahead of the broker's."""
        if "clocks" not in self.chosen:
            return 0.0
        random = Random(f"{self.seed} clock of {process}")
        return random.choice((0.0, -1.0, 1.0)) * random.choice((70.0, 300.0, 1_200.0))

    @property
    def first_offset(self) -> int:
        """Where topics begin. One that is created again begins far below that, or where this one began."""
        return Random(f"{self.seed} first offset").choice(FIRST_OFFSETS) if "recreate" in self.chosen else 0

    def snapshot_seconds(self) -> float:
        """How old a store may become again at most."""
        return max(SNAPSHOT_SECONDS) if self.chosen & {"older-store", "part-store"} else 1.0


def draw_edges(seed: int, faults: Collection[str]) -> Edges:
    """Draw what a seed has, of the faults that may happen."""
    if seed < EDGES_FROM:
        return Edges(str(seed))
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
    """The plan with the strikes of a seed's edges."""
    strikes = sorted((*plan.strikes, *edges.strikes), key=lambda strike: strike.at)
    return replace(plan, strikes=tuple(strikes), edges=edges.chosen)
