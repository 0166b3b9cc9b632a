"""The transform rules of a custom expansion, and the conditions of its filters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.filters import parse_condition
from anabranch.core.expansion.lazy_products import Arithmetic, Chunks
from anabranch.core.expansion.transform_rules import apply_rules, check_rules
from anabranch.core.request.models import TransformRules
from anabranch.core.templates import MISSING

PAPERS: list[dict[str, Any]] = [
    {"id": "p1", "year": 2020, "lang": "en"},
    {"id": "p2", "year": 2022, "lang": "de"},
    {"id": "p3", "year": "2023", "lang": "en"},
    {"id": "p4", "lang": "en"},
]


def made(rules: dict[str, Any], **arrays: list[Any]) -> list[dict[str, Any]]:
    product = apply_rules(TransformRules.model_validate(rules), arrays)
    found = list(product.between(0, product.count))
    assert [product.at(index) for index in range(product.count)] == found
    return found


def test_combine_is_a_product_with_the_first_array_slowest() -> None:
    assert made({"combine": ["y", "x"]}, x=[1, 2], y=["a", "b"]) == [
        {"y": "a", "x": 1},
        {"y": "a", "x": 2},
        {"y": "b", "x": 1},
        {"y": "b", "x": 2},
    ]


def test_zip_goes_element_by_element() -> None:
    assert made({"zip": ["x", "y"]}, x=[1, 2], y=["a", "b"]) == [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]
    with pytest.raises(ExpansionError, match="'x' has 2, 'y' has 1 items"):
        made({"zip": ["x", "y"]}, x=[1, 2], y=["a"])


def test_zip_and_combine_multiply() -> None:
    rows = made({"zip": ["x", "y"], "combine": ["z"]}, x=[1, 2], y=["a", "b"], z=[0, 9])
    assert [(row["z"], row["x"], row["y"]) for row in rows] == [(0, 1, "a"), (0, 2, "b"), (9, 1, "a"), (9, 2, "b")]
    rows = made({"zip": ["x", "y"], "combine": ["x", "z"]}, x=[1, 2], y=["a", "b"], z=[0, 9])
    assert [(row["x"], row["y"], row["z"]) for row in rows] == [(1, "a", 0), (1, "a", 9), (2, "b", 0), (2, "b", 9)]


def test_a_sequence_includes_its_end() -> None:
    assert made({"sequence": {"n": {"start": 1, "end": 3}}}) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert made({"sequence": {"n": {"start": 0, "end": 10, "step": 5}}}) == [{"n": 0}, {"n": 5}, {"n": 10}]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"start": 3, "end": 1}, [3, 2, 1]),
        ({"end": -2}, [0, -1, -2]),
        ({"start": 2.5, "end": 0}, [2.5, 1.5, 0.5]),
        ({"start": 2, "end": 2}, [2]),
        ({"start": 6, "end": 1, "step": -2}, [6, 4, 2]),
        ({"start": 3, "end": 1, "step": 1}, []),
        ({"start": 1, "end": 3, "step": -1}, []),
        ({"start": 3, "end": 1, "step": None}, [3, 2, 1]),
    ],
)
def test_a_sequence_without_a_step_counts_towards_its_end(numbers: dict[str, Any], expected: list[Any]) -> None:
    assert [row["n"] for row in made({"sequence": {"n": numbers}})] == expected


def test_a_sequence_that_is_not_combined_is_a_further_axis() -> None:
    rows = made({"combine": ["x"], "sequence": {"n": {"start": 1, "end": 2}}}, x=["a", "b"])
    assert rows == [{"x": "a", "n": 1}, {"x": "a", "n": 2}, {"x": "b", "n": 1}, {"x": "b", "n": 2}]
    rows = made({"zip": ["x", "n"], "sequence": {"n": {"start": 1, "end": 2}}}, x=["a", "b"])
    assert rows == [{"x": "a", "n": 1}, {"x": "b", "n": 2}]


def test_a_filtered_array_that_is_not_combined_is_handed_to_every_member() -> None:
    rows = made({"filter": {"papers.year": ">2021"}, "combine": ["topic"]}, papers=PAPERS, topic=["a", "b"])
    assert rows == [{"topic": "a", "papers": PAPERS[1:3]}, {"topic": "b", "papers": PAPERS[1:3]}]
    assert made({"filter": {"papers.year": ">2021"}}, papers=PAPERS, topic=["a", "b"]) == rows


def test_a_filtered_array_that_is_combined_or_alone_makes_members() -> None:
    assert made({"filter": {"papers.year": ">2021"}}, papers=PAPERS) == [{"papers": p} for p in PAPERS[1:3]]
    rows = made({"filter": {"papers.lang": "=en"}, "combine": ["papers", "n"]}, papers=PAPERS, n=[1, 2])
    assert [(row["papers"]["id"], row["n"]) for row in rows] == [
        (paper, n) for paper in ("p1", "p3", "p4") for n in (1, 2)
    ]


def test_arrays_that_are_zipped_are_filtered_row_by_row() -> None:
    rows = made({"filter": {"x": ">1", "y": "!=c"}, "zip": ["x", "y"]}, x=[1, 2, 3, 4], y=["a", "b", "c", "d"])
    assert rows == [{"x": 2, "y": "b"}, {"x": 4, "y": "d"}]
    rows = made({"filter": {"x": ">1"}, "zip": ["x", "y"]}, x=[1, 2, 3], y=["a", "b"])
    assert rows == [{"x": 2, "y": "a"}, {"x": 3, "y": "b"}]


def test_chunk_gives_n_items_to_a_member() -> None:
    assert made({"chunk": 2}, x=[1, 2, 3, 4, 5]) == [{"x": [1, 2]}, {"x": [3, 4]}, {"x": [5]}]
    assert made({"chunk": {"x": 2}, "combine": ["y"]}, x=[1, 2, 3], y=["a", "b"]) == [
        {"y": y, "x": x} for y in "ab" for x in ([1, 2], [3])
    ]
    with pytest.raises(ExpansionError, match="one length"):
        made({"chunk": 3}, x=[1, 2, 3, 4, 5], y=[1, 2, 3, 4, 5, 6])


def test_filter_and_distinct_come_before_chunk() -> None:
    rows = made({"chunk": 2, "distinct": True, "filter": {"x": ">=2"}}, x=[1, 2, 2, 3, 1, 4])
    assert rows == [{"x": [2, 3]}, {"x": [4]}]


@pytest.mark.parametrize(
    ("distinct", "ids"),
    [
        (True, ["p1", "p2", "p3", "p4"]),
        ("papers", ["p1", "p2", "p3", "p4"]),
        (["papers.lang"], ["p1", "p2"]),
        (False, ["p1", "p2", "p3", "p4", "p1"]),
    ],
)
def test_distinct_keeps_the_first(distinct: Any, ids: list[str]) -> None:
    rows = made({"distinct": distinct}, papers=[*PAPERS, dict(reversed(list(PAPERS[0].items())))])
    assert [row["papers"]["id"] for row in rows] == ids


def test_distinct_does_not_confuse_true_with_one() -> None:
    assert made({"distinct": ["x"]}, x=[1, True, 1.0, "1", 1]) == [{"x": 1}, {"x": True}, {"x": 1.0}, {"x": "1"}]


def test_arrays_have_their_context_path_as_a_second_name() -> None:
    rules = TransformRules.model_validate({"combine": ["data.papers"], "filter": {"data.papers.lang": "=de"}})
    product = apply_rules(rules, {"paper": PAPERS}, paths={"paper": "data.papers"})
    assert list(product.between(0, product.count)) == [{"paper": PAPERS[1]}]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"combine": ["z"]}, "combine names 'z', which is not an array of the expansion; it has: x"),
        ({"zip": ["x.f"]}, "zip takes whole arrays"),
        ({"sequence": {"x": {"end": 2}}}, "a sequence and a mapped array"),
        ({"filter": {"x": "2021"}}, "no operator"),
        ({"filter": {"q": ">1"}}, "filter names 'q'"),
    ],
)
def test_rules_that_do_not_fit_the_arrays_are_refused(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ExpansionError, match=message):
        made(rules, x=[1])


def test_nothing_to_make_members_of_is_refused() -> None:
    with pytest.raises(ExpansionError, match="names no array"):
        made({})


def test_check_rules_points_at_each_fault() -> None:
    rules = TransformRules.model_validate(
        {"combine": ["a", "b", "a"], "zip": [], "filter": {"a/b": "about 3", "c": ">", "d": "in [1"}}
    )
    assert [place for place, _ in check_rules(rules)] == [
        ("combine", 2),
        ("zip",),
        ("filter", "a/b"),
        ("filter", "c"),
        ("filter", "d"),
    ]
    assert check_rules(TransformRules.model_validate({"combine": ["a"], "filter": {"a": "in x,y"}})) == []


@pytest.mark.parametrize(
    ("condition", "holds", "fails"),
    [
        ("=2021", [2021, 2021.0, "2021", " 2021 "], [2022, "x", None, True, MISSING]),
        ("==en", ["en"], ["EN", None, MISSING]),
        ("!=2021", [2020, "x", None, MISSING], [2021, "2021"]),
        ("> 2021", [2022, "2022", 2021.5], [2021, "x", None, True, MISSING]),
        (">=2021", [2021], [2020]),
        ("<2021", [2020, -1], [2021]),
        ("<=-1.5", [-1.5, -2], [-1]),
        (">9", [10, "10"], [8, "abc"]),
        (">2024-05-01", ["2024-05-02", "2025"], ["2024-04-30", 2025]),
        ("in en, de", ["en", "de"], ["fr", None]),
        ("in (1, 2)", [1, "2"], [3]),
        ('in ["a,b", 2, true]', ["a,b", 2, True], ["a", "3", False]),
        ("~net", ["internet", "net", ["net"]], ["Net", ["internet"], {"net": 1}, None]),
        ("~.*", ["a.*b"], ["anything"]),
        ('="2021"', ["2021"], ["2021.0"]),
        ("=true", [True, "true"], [1, False]),
        ("=", [""], ["x", None]),
        (2021, [2021, "2021"], [2022]),
        (True, [True], [1, False]),
        (None, [None], [0, "", MISSING]),
        (f"={2**53 + 1}", [2**53 + 1], [2**53]),
    ],
)
def test_conditions(condition: Any, holds: list[Any], fails: list[Any]) -> None:
    parsed = parse_condition(condition)
    assert [value for value in holds if not parsed.holds(value)] == []
    assert [value for value in fails if parsed.holds(value)] == []


@pytest.mark.parametrize("condition", ["2021", "", ">", "in", "in ", "~", "industry", "in [1", "like x"])
def test_what_is_no_condition_is_refused(condition: str) -> None:
    with pytest.raises(ValueError, match=r"operator|no value to compare with|JSON list"):
        parse_condition(condition).holds("x")


@given(st.text(max_size=30), st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2))
def test_a_condition_is_refused_or_decides(text: str, value: Any) -> None:
    try:
        condition = parse_condition(text)
    except ValueError:
        return
    assert condition.holds(value) in (True, False)


def test_decimal_sequences_count_as_written() -> None:
    assert list(Arithmetic(0, 0.3, 0.1)) == [0.0, 0.1, 0.2, 0.3]
    assert list(Arithmetic(1.5, 0, -0.5)) == [1.5, 1.0, 0.5, 0.0]
    assert list(Arithmetic(3, 1)) == []
    assert Arithmetic(1, 10**12)[-1] == 10**12
    assert Arithmetic(0, 9)[2:5] == [2, 3, 4]
    with pytest.raises(ExpansionError, match="too long"):
        Arithmetic(0, 1e300, 1e-300)


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-7, 7).filter(bool))
def test_whole_sequences_are_ranges_with_their_end(start: int, end: int, step: int) -> None:
    assert list(Arithmetic(start, end, step)) == list(range(start, end + (1 if step > 0 else -1), step))


@given(st.lists(st.integers(), max_size=20), st.integers(1, 7))
def test_chunks_hold_every_item_once(items: list[int], size: int) -> None:
    chunks = Chunks(items, size)
    assert [item for chunk in chunks for item in chunk] == items
    assert all(len(chunk) == size for chunk in chunks[:-1])
