"""Compact sets of indexes against plain sets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.ranges import NO_RANGES, FrozenRanges, Ranges, Spans, single_range

PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)).map(lambda p: (p[0], p[0] + p[1])), max_size=12)


def indexes(pairs: list[tuple[int, int]]) -> set[int]:
    return {index for start, stop in pairs for index in range(start, stop)}


@given(PAIRS)
def test_adding_ranges_agrees_with_a_set_and_keeps_them_apart(pairs: list[tuple[int, int]]) -> None:
    held: set[int] = set()
    ranges = Ranges()
    for start, stop in pairs:
        assert ranges.add(start, stop) == len(set(range(start, stop)) - held)
        held |= set(range(start, stop))
    assert set(ranges.indexes()) == held
    assert list(ranges.indexes()) == sorted(held)
    assert len(ranges) == len(held)
    assert all(index in ranges if index in held else index not in ranges for index in range(50))
    found = list(ranges)
    assert all(start < stop for start, stop in found)
    assert all(left[1] < right[0] for left, right in pairwise(found))


@given(PAIRS, PAIRS)
def test_union_and_difference_agree_with_sets(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    left, right = Ranges(a), Ranges(b)
    assert set(left.union(right).indexes()) == indexes(a) | indexes(b)
    assert set(left.difference(right).indexes()) == indexes(a) - indexes(b)
    assert left == Ranges(a)
    assert right == Ranges(b)


@given(PAIRS, st.integers(0, 45), st.integers(0, 45))
def test_missing_agrees_with_sets(pairs: list[tuple[int, int]], start: int, stop: int) -> None:
    ranges = Ranges(pairs)
    expected = set(range(start, stop)) - indexes(pairs)
    assert indexes(list(ranges.missing(start, stop))) == expected


@given(PAIRS)
def test_pairs_read_back(pairs: list[tuple[int, int]]) -> None:
    assert Ranges.from_pairs(Ranges(pairs).pairs()) == Ranges(pairs)


def test_a_million_members_in_order_are_one_range() -> None:
    ranges = Ranges()
    for start in range(0, 1_000_000, 500):
        ranges.add(start, start + 500)
    assert ranges.pairs() == [[0, 1_000_000]]
    assert len(ranges) == 1_000_000


@pytest.mark.parametrize("pair", [(-1, 3), (4, 3)])
def test_what_is_no_range_is_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not a range"):
        Ranges([pair])


def test_a_copy_is_independent() -> None:
    ranges = Ranges([(0, 2)])
    ranges.copy().add(5)
    assert ranges.pairs() == [[0, 2]]
    assert bool(ranges)
    assert not Ranges()


def spans_of(pairs: list[tuple[int, int]]) -> Spans:
    return tuple(Ranges(pairs))


@given(PAIRS, PAIRS)
def test_covering_and_leaving_out_spans_agree_with_sets(
    a: list[tuple[int, int]], b: list[tuple[int, int]]
) -> None:
    for held in (Ranges(a), FrozenRanges(Ranges(a))):
        assert held.covers(spans_of(b)) == (indexes(b) <= indexes(a))
        assert set(held.without(spans_of(b)).indexes()) == indexes(a) - indexes(b)
        assert held == Ranges(a)


@given(st.integers(0, 9), st.integers(1, 9), st.integers(0, 20), st.integers(1, 9))
def test_one_range_without_another(start: int, length: int, other: int, other_length: int) -> None:
    held = single_range(start, start + length)
    left = held.without(((other, other + other_length),))
    assert set(left.indexes()) == set(range(start, start + length)) - set(range(other, other + other_length))
    assert all(first < last for first, last in left)


def test_no_set_covers_a_span_that_holds_nothing() -> None:
    assert not Ranges([(0, 9)]).covers(((5, 5),))
    assert not Ranges([(0, 9)]).covers(((6, 5),))
    assert not Ranges([(0, 9)]).covers(((-1, 5),))
    assert NO_RANGES.covers(())


@given(PAIRS, PAIRS)
def test_a_shared_set_is_replaced_when_it_changes(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    shared = FrozenRanges(Ranges(a))
    changed: Ranges = shared
    for pair in b:
        changed |= (pair,)
    assert set(changed.indexes()) == indexes(a) | indexes(b)
    assert shared == Ranges(a)


@given(PAIRS)
def test_a_set_of_its_own_is_changed_in_place(pairs: list[tuple[int, int]]) -> None:
    own = Ranges()
    same = own
    own |= spans_of(pairs)
    assert own is same
    assert own == Ranges(pairs)


def test_a_shared_set_refuses_other_changes() -> None:
    with pytest.raises(TypeError, match="shared"):
        NO_RANGES.add(0, 1)
    with pytest.raises(TypeError, match="shared"):
        single_range(0, 1).update(Ranges([(1, 2)]))


def test_sets_of_one_range_are_shared() -> None:
    assert single_range(0, 1) is single_range(0, 1)
    changed: Ranges = NO_RANGES
    changed |= ((3, 5),)
    assert changed is single_range(3, 5)
    assert hash(single_range(3, 5)) == hash(FrozenRanges([(3, 5)]))
    with pytest.raises(ValueError, match="not a range"):
        single_range(4, 3)
