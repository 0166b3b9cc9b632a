"""Partitions of offers: each has its turn, and a few offers in a row reach every worker of a few."""

from __future__ import annotations

import pytest

from anabranch_taskgroup.owner.offer_router import spread_stride


@pytest.mark.parametrize("partitions", range(1, 201))
def test_each_partition_has_its_turn(partitions: int) -> None:
    stride = spread_stride(partitions)

    assert sorted(turn * stride % partitions for turn in range(partitions)) == list(range(partitions))


@pytest.mark.parametrize("partitions", [8, 12, 24, 48, 96, 100, 500])
def test_three_offers_in_a_row_reach_both_of_two_workers(partitions: int) -> None:
    stride, half = spread_stride(partitions), partitions // 2

    for turn in range(partitions):
        places = [(turn + each) * stride % partitions for each in range(3)]
        assert {place < half for place in places} == {True, False}
        assert {place % 2 for place in places} == {0, 1}
