"""How a worker divides its capacity among lanes: by weight, without starvation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.lanes import DEFAULT_LANE, Lane
from anabranch.core.names import Names
from anabranch_taskgroup.worker.lane_turns import LaneTurns

GPU = Lane(pool="gpu")
URGENT = Lane(priority="urgent")
LANES = (DEFAULT_LANE, GPU, URGENT)


def test_each_lane_has_a_topic_of_its_own() -> None:
    names = Names("p.")

    assert names.tasks() == names.tasks(DEFAULT_LANE) == "p.tasks"
    assert names.tasks(GPU) == "p.tasks.gpu"
    assert names.tasks(URGENT) == "p.tasks.default.urgent"
    assert names.tasks(Lane("gpu", "low")) == "p.tasks.gpu.low"


def test_busy_lanes_share_by_weight() -> None:
    turns = LaneTurns({DEFAULT_LANE: 1, URGENT: 3})

    assert turns.share(8, {DEFAULT_LANE: 100, URGENT: 100}) == {DEFAULT_LANE: 2, URGENT: 6}


def test_a_share_of_one_turn_at_a_time_remembers_whose_turn_is_next() -> None:
    turns = LaneTurns({DEFAULT_LANE: 1, URGENT: 3})

    taken = [next(iter(turns.share(1, {DEFAULT_LANE: 9, URGENT: 9}))) for _ in range(8)]

    assert taken.count(DEFAULT_LANE) == 2


def test_a_lane_alone_gets_every_turn() -> None:
    turns = LaneTurns({DEFAULT_LANE: 1, URGENT: 3})

    assert turns.share(5, {DEFAULT_LANE: 9, URGENT: 0}) == {DEFAULT_LANE: 5}
    assert turns.share(5, {DEFAULT_LANE: 0, URGENT: 0}) == {}


@given(
    st.lists(st.integers(1, 15), min_size=3, max_size=3),
    st.lists(st.tuples(st.integers(1, 64), st.tuples(*[st.integers(0, 40)] * 3)), max_size=30),
)
def test_no_more_is_taken_than_is_queued_and_all_turns_are_used(
    weights: list[int], rounds: list[tuple[int, tuple[int, ...]]]
) -> None:
    turns = LaneTurns(dict(zip(LANES, weights, strict=True)))
    for capacity, numbers in rounds:
        queued = dict(zip(LANES, numbers, strict=True))
        shares = turns.share(capacity, queued)
        assert sum(shares.values()) == min(capacity, sum(numbers))
        assert all(shares[lane] <= queued[lane] for lane in LANES)


@given(st.lists(st.integers(1, 15), min_size=3, max_size=3), st.integers(1, 100))
def test_no_lane_starves(weights: list[int], turns: int) -> None:
    """In any number of turns a busy lane gets its share, except for one turn."""
    shares = LaneTurns(dict(zip(LANES, weights, strict=True))).share(turns, dict.fromkeys(LANES, 1_000))

    for lane, weight in zip(LANES, weights, strict=True):
        assert shares[lane] >= turns * weight // sum(weights) - 1
