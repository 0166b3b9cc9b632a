"""The matrix against the recorded cases, and against a naive version that walks the whole product."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.matrix import Matrix, loosely_equal

CASES = json.loads((Path(__file__).parents[2] / "data" / "matrix-cases.json").read_text())
LITERALS = st.sampled_from(["x", "X", "", "1", "1.0", 1, 0, 2, True, False, None])
VALUES = st.one_of(
    LITERALS,
    st.dictionaries(st.sampled_from("pq"), LITERALS, max_size=2),
    st.lists(LITERALS, max_size=2),
)
AXES = st.dictionaries(st.sampled_from("abc"), st.lists(VALUES, max_size=4), max_size=3)
ENTRIES = st.lists(st.dictionaries(st.sampled_from("abcxy"), VALUES, min_size=1, max_size=3), max_size=4)


def combinations(matrix: Matrix) -> list[dict[str, Any]]:
    return list(matrix.between(0, matrix.count))


def naive(axes: dict[str, list[Any]], include: list[dict[str, Any]], exclude: list[dict[str, Any]]) -> list[Any]:
    """Walk the product combination by combination, as the documentation describes it."""
    originals = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())] if axes else []
    kept = [one for one in originals if not any(matches(one, entry) for entry in exclude)]
    extended = [dict(one) for one in kept]
    appended = []
    for entry in include:
        hits = [at for at, one in enumerate(kept) if matches(one, {k: v for k, v in entry.items() if k in axes})]
        for at in hits:
            extended[at].update({key: value for key, value in entry.items() if key not in axes})
        appended += [] if hits else [entry]
    return extended + appended


def matches(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return all(matches(value.get(k) if isinstance(value, dict) else None, v) for k, v in wanted.items())
    if isinstance(wanted, list):
        items: list[Any] = value if isinstance(value, list) else []
        return all(matches(items[at] if at < len(items) else None, v) for at, v in enumerate(wanted))
    return loosely_equal(value, wanted)


@pytest.mark.parametrize("case", CASES, ids=[f"{case['file']}-{case['job']}" for case in CASES])
def test_recorded_matrices_are_exact_and_in_order(case: dict[str, Any]) -> None:
    axes = dict(case["matrix"])
    include, exclude = axes.pop("include", []), axes.pop("exclude", [])
    matrix = Matrix(axes, include=include, exclude=exclude)
    assert matrix.count == case["count"]
    assert combinations(matrix) == case["combinations"]


@given(AXES, ENTRIES, ENTRIES)
def test_index_arithmetic_agrees_with_walking_the_product(axes: Any, include: Any, exclude: Any) -> None:
    exclude = [entry for entry in exclude if entry.keys() <= axes.keys()]
    matrix = Matrix(axes, include=include, exclude=exclude)
    expected = naive(axes, include, exclude)
    # Through JSON, because to Python 1 and True are one value.
    assert json.dumps(combinations(matrix), sort_keys=True) == json.dumps(expected, sort_keys=True)
    assert matrix.count == len(expected)


@given(AXES, ENTRIES, ENTRIES, st.integers(0, 70), st.integers(0, 70))
def test_a_range_is_a_slice_of_the_whole(axes: Any, include: Any, exclude: Any, start: int, stop: int) -> None:
    matrix = Matrix(axes, include=include, exclude=[entry for entry in exclude if entry.keys() <= axes.keys()])
    assert list(matrix.between(start, stop)) == combinations(matrix)[start:stop]


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("Linux", "linux", True),
        (3.1, "3.10", True),
        ("3.1", "3.10", False),
        (12, "12", True),
        ("0x1f", 31, True),
        ("0o17", 15, True),
        (True, 1, True),
        (True, "true", False),
        (False, "", True),
        (None, 0, True),
        (None, "", True),
        (None, None, True),
        ("abc", 0, False),
        ("straße", "STRASSE", False),
        ("straße", "STRAßE", True),
        ({"a": 1}, {"a": 1}, False),
        ([], 0, False),
        (10**400, math.inf, True),
        ("Infinity", math.inf, True),
    ],
)
def test_values_compare_as_githubs_expressions_do(left: Any, right: Any, equal: bool) -> None:
    assert loosely_equal(left, right) is equal
    assert loosely_equal(right, left) is equal


def test_a_partial_exclude_matches_inside_objects() -> None:
    configs = [{"os": "linux", "arch": "x64"}, {"os": "linux", "arch": "arm"}, {"os": "mac", "arch": "arm"}]
    axes: dict[str, list[Any]] = {"config": configs, "py": [1, 2]}
    matrix = Matrix(axes, exclude=[{"config": {"os": "linux"}, "py": 2}])
    assert [(c["config"]["os"], c["py"]) for c in combinations(matrix)] == [
        ("linux", 1),
        ("linux", 1),
        ("mac", 1),
        ("mac", 2),
    ]


def test_an_include_that_names_part_of_an_object_extends_it() -> None:
    matrix = Matrix({"c": [{"os": "a", "n": 1}, {"os": "b"}]}, include=[{"c": {"os": "a"}, "extra": True}])
    assert combinations(matrix) == [{"c": {"os": "a", "n": 1}, "extra": True}, {"c": {"os": "b"}}]


def test_an_include_of_what_was_excluded_comes_back_as_its_own_combination() -> None:
    matrix = Matrix({"a": [1, 2]}, exclude=[{"a": 2}], include=[{"a": 2, "x": "y"}])
    assert combinations(matrix) == [{"a": 1}, {"a": 2, "x": "y"}]


def test_includes_alone_are_the_matrix() -> None:
    assert combinations(Matrix({}, include=[{"a": 1}, {"b": 2}])) == [{"a": 1}, {"b": 2}]
    assert Matrix({}).count == 0
    assert combinations(Matrix({"a": []}, include=[{"b": 2}])) == [{"b": 2}]


def test_keys_match_without_case_where_the_exact_one_is_not_there() -> None:
    matrix = Matrix({"os": ["a", "b"]}, exclude=[{"OS": "A"}], include=[{"Os": "b", "x": 1}, {"X": 2}])
    assert combinations(matrix) == [{"os": "b", "x": 2}]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"exclude": [{"c": 1}]}, "exclude key 'c' is not an axis of the matrix; the axes are: a, b"),
        ({"exclude": [{}]}, "exclude entry of the matrix is empty"),
        ({"include": [{}]}, "include entry of the matrix is empty"),
    ],
)
def test_entries_that_make_no_sense_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ExpansionError, match=message):
        Matrix({"a": [1], "b": [2]}, **kwargs)


def test_a_matrix_too_large_to_count_is_refused() -> None:
    with pytest.raises(ExpansionError, match="too many combinations"):
        Matrix({f"axis {n}": list(range(10)) for n in range(1000)})


def test_entangled_excludes_are_refused_rather_than_counted_for_ever() -> None:
    axes = {f"a{n}": [0, 1] for n in range(40)}
    exclude = [{f"a{n}": n % 2, f"a{39 - n}": 1} for n in range(40)]
    with pytest.raises(ExpansionError, match="too many to count"):
        Matrix(axes, exclude=exclude)


def test_there_is_no_combination_outside_the_matrix() -> None:
    with pytest.raises(IndexError):
        Matrix({"a": [1]}).at(1)


class Counting(Sequence[int]):
    """Numbers that count how often they are read."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.reads = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        self.reads += 1
        if not 0 <= index < self.length:
            raise IndexError(index)
        return index

    def __iter__(self) -> Iterator[int]:
        return (self[index] for index in range(self.length))


def test_a_range_of_a_million_costs_what_the_range_costs() -> None:
    axes = {name: Counting(100) for name in "abc"}
    exclude = [{"a": 3, "b": 5}, {"b": 7, "c": 9}, {"a": 4}]
    matrix = Matrix(axes, include=[{"c": 1, "x": "y"}, {"c": 1000}], exclude=exclude)
    assert matrix.count == 1_000_000 - 10_000 - 100 - 99 + 1
    read_to_count = sum(axis.reads for axis in axes.values())
    assert len(list(matrix.between(500_000, 500_500))) == 500
    assert read_to_count == 100 * len("abc") + 100 * len("c")
    assert sum(axis.reads for axis in axes.values()) - read_to_count == 3 * 500
