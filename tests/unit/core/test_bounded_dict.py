"""`BoundedDict` against a plain list of entries that is searched each time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.bounded import BoundedDict

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["set", "get", "in", "delete"]), st.integers(0, 6), st.integers(0, 5))
)


@given(st.integers(1, 5), OPERATIONS)
def test_it_holds_the_entries_that_were_used_last(size: int, operations: list[tuple[str, int, int]]) -> None:
    bounded: BoundedDict[int, int] = BoundedDict(size)
    model: list[tuple[int, int]] = []
    for what, key, value in operations:
        known = dict(model)
        if what == "set":
            bounded[key] = value
            model = ([each for each in model if each[0] != key] + [(key, value)])[-size:]
        elif what == "get":
            assert bounded.get(key) == known.get(key)
            if key in known:
                model = [each for each in model if each[0] != key] + [(key, known[key])]
        elif what == "in":
            assert (key in bounded, bounded.peek(key)) == (key in known, known.get(key))
        else:
            bounded.pop(key, None)
            model = [each for each in model if each[0] != key]

        assert list(bounded) == [each[0] for each in model]
        assert bounded.total_weight == len(bounded) == len(model)


def test_evicted_entries_are_reported_with_their_values() -> None:
    gone: list[tuple[str, int]] = []
    bounded: BoundedDict[str, int] = BoundedDict(2, evicted=lambda key, value: gone.append((key, value)))

    bounded.update(a=1, b=2)
    assert bounded["a"] == 1
    bounded["c"] = 3
    del bounded["a"]

    assert gone == [("b", 2)]
    assert dict(bounded) == {"c": 3}


def test_weights_count_where_they_are_given_and_the_last_value_stays() -> None:
    bounded: BoundedDict[str, bytes] = BoundedDict(10, weight=len)

    bounded["a"], bounded["b"] = b"1234", b"123456"
    assert (list(bounded), bounded.total_weight) == (["a", "b"], 10)
    bounded["a"] = b"12345"
    assert (list(bounded), bounded.total_weight) == (["a"], 5)
    bounded["c"] = b"x" * 11
    assert (list(bounded), bounded.total_weight) == (["c"], 11)


def test_entries_can_be_iterated_and_keep_their_order() -> None:
    bounded: BoundedDict[str, int] = BoundedDict(2)
    bounded.update(a=1, b=2)

    assert (list(bounded.items()), list(bounded.values())) == ([("a", 1), ("b", 2)], [1, 2])
    bounded["c"] = 3
    assert list(bounded) == ["b", "c"]


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_size is 0, must be at least 1"):
        BoundedDict[str, int](0)
