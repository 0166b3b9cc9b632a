"""The four output formats."""

from __future__ import annotations

import pytest

from anabranch.core.outputs import derived, empty_value, join, reference_count

RESULTS = [(2, "c", [5, 6]), (0, "a", [1]), (1, "b", {"x": 2})]


@pytest.mark.parametrize(
    ("output_format", "expected"),
    [
        ("merge", [1, {"x": 2}, 5, 6]),
        ("separate", {"a": [1], "b": {"x": 2}, "c": [5, 6]}),
        ("single", [5, 6]),
        ("index", [[1], {"x": 2}, [5, 6]]),
    ],
)
def test_results_join_in_member_order(output_format: str, expected: object) -> None:
    joined = join(output_format, RESULTS, 3)  # type: ignore[arg-type]
    assert joined == expected
    if isinstance(expected, dict):
        assert list(joined) == list(expected)


def test_failed_members_are_left_out_or_null() -> None:
    results = [(0, None, 1), (2, None, None)]
    assert join("merge", results, 4) == [1, None]
    assert join("separate", results, 4) == {"0": 1, "2": None}
    assert join("single", results, 4) is None
    assert join("index", results, 4) == [1, None, None, None]


def test_separate_derives_a_key_for_each_member() -> None:
    assert dict(derived([(0, "doc 1", 5), (1, None, 6)], "summary")) == {"doc 1_summary": 5, "1_summary": 6}


@pytest.mark.parametrize(
    ("output_format", "empty"), [("merge", []), ("separate", {}), ("single", None), ("index", [])]
)
def test_nothing_joins_to_the_empty_value(output_format: str, empty: object) -> None:
    assert empty_value(output_format) == empty  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "count"), [([1, 2, 3], 3), ({"a": 1}, 1), ("text", 1), (None, 1), ([], 0)])
def test_a_reference_counts_items(value: object, count: int) -> None:
    assert reference_count(value) == count
