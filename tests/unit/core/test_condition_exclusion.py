"""Pairs of conditions that cannot both be true, and pairs that can or that are not recognized."""

from __future__ import annotations

import pytest

from anabranch.core.conditions import Exclusions, exclusive, normalized, parse_condition
from anabranch.core.conditions.checks import MAX_TERMS


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x == 1", "!(x == 1)"),
        ("x == 1", "x != 1"),
        ("x == 1", "x != 1.0"),
        ("x == 1", "x == 2"),
        ("x == 1", "x == true"),
        ("x == [1]", "x == [true]"),
        ("flag", "!flag"),
        ("flag", "flag == false"),
        ("flag", "flag == 'yes'"),
        ("x == 1 && y == 2", "!(x == 1 && y == 2)"),
        ("x == 1 || y == 2", "!(x == 1 || y == 2)"),
        ("!(x == 1 || y == 2) && z", "z && (x == 1 || y == 2)"),
        ("score >= 0.8", "score < 0.8"),
        ("score >= 0.8", "score >= 0.5 && score < 0.8"),
        ("score > 5", "score == 5"),
        ("score > 5", "score < 3"),
        ("score > 5 && score <= 9", "score > 9 && score < 11"),
        ("!(score > 5)", "score > 5"),
        ("score > 5", "score in [1, 2.5, 5]"),
        ("name > 'm'", "name <= 'm'"),
        ("score > 5", "score > 'a'"),
        ("kind in ['a', 'b']", "kind in ['c', 'd']"),
        ("kind in ['a', 'b']", "kind == 'c'"),
        ("kind in ['a', 'b']", "kind not in ['b', 'a', 'c']"),
        ("kind == 'c'", "kind not in ['c']"),
        ("kind == 'abc'", "kind starts_with 'x'"),
        ("kind starts_with 'ab'", "kind starts_with 'x'"),
        ("kind ends_with 'ab'", "kind ends_with 'bb'"),
        ("kind starts_with 'ab'", "!(kind starts_with 'ab')"),
        ("kind starts_with 'ab'", "kind > 5"),
        ("tags contains 'x'", "tags not contains 'x'"),
        ("tags contains 1", "tags starts_with 'x'"),
        ("x is_type string", "x is_type number"),
        ("x is_type string", "!(x is_type string)"),
        ("x is_type integer", "!(x is_type number)"),
        ("x is_type string", "x > 5"),
        ("x == null", "x is_type string"),
        ("exists(x)", "!exists(x)"),
        ("exists(x)", "not_exists(x)"),
        ("x == 1", "not_exists(x)"),
        ("y == x", "not_exists(x)"),
        ("a < b", "a >= b"),
        ("a < b", "b <= a"),
        ("a == b", "b != a"),
        ("a in b", "b not contains a"),
        ("b in a", "a not contains b"),
        ("a > b && c", "!(a > b)"),
        ("(x == 1 || x == 2) && y", "(x == 3 || x == 4) && y"),
        ("false", "y == 1"),
        ("y == 1 && false", "true"),
    ],
)
def test_exclusive_pairs(a: str, b: str) -> None:
    one, other = parse_condition(a), parse_condition(b)

    assert exclusive(one, other)
    assert exclusive(other, one)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x == 1", "x == 1.0"),
        ("x == 1", "y == 2"),
        ("x == 1 || z", "x == 2"),
        ("x != 1", "x != 2"),
        ("score >= 0.8", "score <= 0.8"),
        ("score > 5", "score < 6"),
        ("score > 5", "score != 7"),
        ("kind in ['a', 'b']", "kind in ['b', 'c']"),
        ("kind starts_with 'a'", "kind starts_with 'ab'"),
        ("kind starts_with 'a'", "kind ends_with 'b'"),
        ("tags contains 'x'", "tags contains 'y'"),
        ("tags contains 'x'", "tags starts_with 'y'"),
        ("x is_type integer", "x is_type number"),
        ("exists(x)", "x == 1"),
        ("not_exists(x)", "not_exists(x)"),
        ("not_exists(x)", "not_exists(y)"),
        ("a < b", "b < c"),
        ("a < b", "a != b"),
        ("a == b", "a == 1"),
        ("true", "x == 1"),
        ("true", "true"),
        ("true || false", "true"),
        ("x == 1 && x == 2", "y == 1"),  # never true, and not recognized
    ],
)
def test_pairs_that_may_both_be_true(a: str, b: str) -> None:
    assert not exclusive(parse_condition(a), parse_condition(b))
    assert not exclusive(parse_condition(b), parse_condition(a))


def test_the_branches_of_a_chain_of_elses_are_exclusive_in_pairs() -> None:
    first, second, third = "a > 1", "!(a > 1) && b == 2", "!(a > 1) && !(b == 2)"
    pairs = [(first, second), (first, third), (second, third)]

    assert [exclusive(parse_condition(one), parse_condition(other)) for one, other in pairs] == [True] * 3


def test_a_proof_that_takes_too_long_is_none() -> None:
    many = normalized({"any": [f"x{place} == 1" for place in range(MAX_TERMS)]})
    wide = normalized({"all": [{"any": [f"x{place} == 2", f"y{place} == 2"]} for place in range(MAX_TERMS // 2)]})
    long = normalized({"field": "x", "operator": "in", "value": list(range(9_000))})
    other = normalized({"field": "x", "operator": "in", "value": list(range(9_000, 18_000))})

    assert exclusive(many, {"not": many}) is False
    assert exclusive(many, wide) is False
    assert exclusive(long, other) is False


def test_all_proofs_share_one_budget() -> None:
    pairs = [(parse_condition("x == 1 && y"), parse_condition(f"x == {number}")) for number in (2, 3, 4)]
    proofs = Exclusions(max_steps=5)

    assert [proofs.exclusive(*pair) for pair in pairs] == [True, True, False]
    assert Exclusions().exclusive(*pairs[2])


def test_conditions_are_known_by_identity_also_after_others_are_gone() -> None:
    proofs = Exclusions()

    for number in range(100):  # conditions that are freed would give their ids to the next ones
        one, other = parse_condition(f"x == {number}"), parse_condition(f"x == {number % 2}")
        assert proofs.exclusive(one, other) is (number > 1)
