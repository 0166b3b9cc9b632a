"""Additional faults of the owners of a feature, while they decide about it: of schedules while these fire, of
limits and budgets while members are counted. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation

from anabranch.testing.simulator.faults import Strike
from anabranch.testing.simulator.limited import has_limits
from anabranch.testing.simulator.scheduled import FIRST_FIRING, has_schedules
from anabranch.testing.simulator.spending import has_spending

KINDS = ("kill", "kill", "expel", "freeze", "restart")


@dataclass(frozen=True, slots=True)
class Takeover:
    """A fault of a process of one `kind`: `agency` or `taskgroup`."""

    kind: str
    strike: Strike


def is_odd(seed: str) -> bool:
    """True if a seed has the newer half of its range's conditions: seeds that found a bug keep the others."""
    return int(seed) % 2 == 1


def draw_takeovers(seed: str, faults: Collection[str]) -> list[Takeover]:
    """Those of `faults` that strike the owners of a seed's feature."""
    random = Random(f"takeovers {seed}")
    found: list[Takeover] = []
    if has_schedules(seed):
        found = _draw(random, ("agency",), FIRST_FIRING, (4.0, 20.0, 80.0))
    elif has_limits(seed) and is_odd(seed):
        found = _draw(random, ("agency", "agency", "taskgroup"), 0.0, (5.0, 15.0))
    elif has_spending(seed) and is_odd(seed):
        found = _draw(random, ("taskgroup",), 0.0, (5.0, 15.0))
    return [each for each in found if each.strike.kind in faults]


def _draw(random: Random, kinds: Sequence[str], first: float, within: Sequence[float]) -> list[Takeover]:
    found = []
    for _ in range(random.choice((0, 1, 2, 4, 8))):
        kind, seconds = random.choice(KINDS), random.choice((0.2, 1.0, 8.0))
        at = first + random.random() * random.choice(within)
        found.append(Takeover(random.choice(kinds), Strike(kind, at, None, seconds, random.random(), 0.0)))
    return found
