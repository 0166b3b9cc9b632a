"""The simulator bites: each mechanism that is broken on purpose is found by one of a few seeds."""

from __future__ import annotations

import pytest

from anabranch.testing.simulator import World
from anabranch.testing.simulator.mutations import MUTATIONS, Mutation, applied

MOST_SEEDS = 400


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_a_broken_mechanism_is_found(mutation: Mutation) -> None:
    with applied(mutation):
        found = next((seed for seed in range(MOST_SEEDS) if World(seed, mutation.faults).run().violations), None)

    assert found is not None, f"no seed below {MOST_SEEDS} found that {mutation.what}"
