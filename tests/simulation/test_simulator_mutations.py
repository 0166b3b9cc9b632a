"""Mutation test of the simulator: a few seeds detect each mechanism that is broken on purpose."""

from __future__ import annotations

import pytest

from anabranch.testing.simulator import World
from anabranch.testing.simulator.branch_mutations import BROKEN as BROKEN_BRANCHES
from anabranch.testing.simulator.branches import BRANCHES_FROM
from anabranch.testing.simulator.child_mutations import BROKEN as BROKEN_CHILDREN
from anabranch.testing.simulator.children import CHILDREN_FROM
from anabranch.testing.simulator.edges import EDGES_FROM
from anabranch.testing.simulator.endings import ENDINGS_FROM
from anabranch.testing.simulator.event_mutations import BROKEN as BROKEN_EVENTS
from anabranch.testing.simulator.event_waits import EVENTS_FROM
from anabranch.testing.simulator.limit_mutations import BROKEN as BROKEN_LIMITS
from anabranch.testing.simulator.limited import CONFIGURED_FROM, LIMITS_FROM
from anabranch.testing.simulator.long_runs import LONG_FROM
from anabranch.testing.simulator.loops import LOOPS_FROM
from anabranch.testing.simulator.mutations import MUTATIONS, applied
from anabranch.testing.simulator.ordered import ORDERED_FROM
from anabranch.testing.simulator.ordered_mutations import BROKEN as BROKEN_ORDER
from anabranch.testing.simulator.outside import OUTSIDE_FROM
from anabranch.testing.simulator.outside_mutations import BROKEN as BROKEN_OUTSIDE
from anabranch.testing.simulator.required import REQUIRED_FROM
from anabranch.testing.simulator.required_mutations import BROKEN as BROKEN_REQUIRED
from anabranch.testing.simulator.schedule_mutations import BROKEN as BROKEN_SCHEDULES
from anabranch.testing.simulator.scheduled import SCHEDULES_FROM
from anabranch.testing.simulator.spending import SPENDING_FROM
from anabranch.testing.simulator.spending_mutations import BROKEN as BROKEN_SPENDING
from anabranch.testing.simulator.waiting import WAITS_FROM

MAX_SEEDS = 400
BEGIN = {
    "cut-short": 190,
    "no-admission": EDGES_FROM,
    "no-generation": EDGES_FROM,
    "refuses-large": EDGES_FROM,
    "deaf-owner": EDGES_FROM + 150,
    "local-clock": EDGES_FROM + 1_300,
    "late-inline": EDGES_FROM + 150,
    "snapshot-gap": LONG_FROM + 100,
    "snapshot-pin": LONG_FROM + 100,
    "snapshot-field": LONG_FROM,
    "no-snapshots-read": LONG_FROM,
    **dict.fromkeys(("early-signal", "kept-signal", "signal-again", "wait-again"), WAITS_FROM),
    **dict.fromkeys(("undo-again", "undo-forward", "end-early", "stop-all", "retrier-budget"), ENDINGS_FROM),
    **dict.fromkeys(BROKEN_EVENTS, EVENTS_FROM),
    **dict.fromkeys(BROKEN_BRANCHES, BRANCHES_FROM),
    **dict.fromkeys(BROKEN_CHILDREN, CHILDREN_FROM),
    **dict.fromkeys(BROKEN_LIMITS, LIMITS_FROM),
    **dict.fromkeys(BROKEN_SPENDING, SPENDING_FROM),
    **dict.fromkeys(BROKEN_REQUIRED, REQUIRED_FROM),
    **dict.fromkeys(BROKEN_ORDER, ORDERED_FROM + 20),
    **dict.fromkeys(BROKEN_OUTSIDE, OUTSIDE_FROM),
    "level-starved": ORDERED_FROM + 5,
    "pool-open": ORDERED_FROM + 1,
    "level-unfound": ORDERED_FROM + 11,
    **dict.fromkeys(BROKEN_SCHEDULES, SCHEDULES_FROM),
    "limit-mixed": CONFIGURED_FROM,
    "breaker-deaf": CONFIGURED_FROM,
    "firing-untold": SCHEDULES_FROM + 44,
    "iteration-again": LOOPS_FROM,
    "iteration-values": LOOPS_FROM,
    "iteration-chunks": LOOPS_FROM,
}
"""Where the seeds begin that find it: edge seeds, and few seeds find `cut-short`."""


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_mechanism_is_found(name: str) -> None:
    mutation, begin = MUTATIONS[name], BEGIN.get(name, 0)
    seeds = range(begin, begin + MAX_SEEDS)
    with applied(mutation):
        found = next((seed for seed in seeds if World(seed, mutation.faults).run().violations), None)

    assert found is not None, f"no seed of {seeds} found that {mutation.what}"
