"""Conditions over values: results, errors, explanations, and what is known before a run."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from anabranch import ConditionError
from anabranch.core.conditions import evaluate, fields_of, outcome, parse_condition, why_false
from anabranch.core.conditions.evaluation import MAX_EXPLANATION

SCOPE: dict[str, Any] = {
    "n": 1,
    "half": 0.5,
    "one": 1.0,
    "big": 2**53 + 1,
    "huge": 10**400,
    "yes": True,
    "no": False,
    "nothing": None,
    "text": "abc",
    "tags": ["a", 1, True, {"x": [1]}],
    "tests": {"passed": True, "by.suite": {"unit": 3}},
    "tests.failed": 0,
    "items": [{"sku": "A1"}, {"sku": "B2"}],
    "nan": float("nan"),
    "empty": {},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n == 1", True),
        ("n == 1.0", True),
        ("one == 1", True),
        ("n == one", True),
        ("yes == 1", False),
        ("yes != 1", True),
        ("n == true", False),
        ("no == 0", False),
        ("n == '1'", False),
        ("nothing == null", True),
        ("nothing == false", False),
        ("tags == ['a', 1.0, true, {'x': [1]}]", True),
        ("tags == ['a', 1, 1, {'x': [1]}]", False),
        ("tags == ['a', 1, true, {'x': [true]}]", False),
        ("empty == {}", True),
        ("empty == []", False),
        ("big == 9007199254740992.0", False),
        ("big > 9007199254740992.0", True),
        ("huge > 1e308", True),
        ("nan == nan", False),
        ("nan != 1", True),
        ("half >= 0.5 && half <= 0.5 && !(half > 0.5) && !(half < 0.5)", True),
        ("text > 'abb' && text < 'b' && text >= 'abc'", True),
        ("text < 'Z'", False),
        ("text contains 'bc'", True),
        ("text not contains 'bc'", False),
        ("text contains ''", True),
        ("tags contains 1", True),
        ("tags contains 1.0", True),
        ("tags contains false", False),
        ("tags contains {'x': [1.0]}", True),
        ("tags contains {'x': [true]}", False),
        ("tests contains 'passed'", True),
        ("tests contains 'x'", False),
        ("'passed' in tests", True),
        ("n in [2, 1]", True),
        ("yes in [1]", False),
        ("yes not in [1]", True),
        ("text in 'xabcx'", True),
        ("text in {'abc': 1}", True),
        ("nothing in [null]", True),
        ("n in tags", True),
        ("items.0.sku in ['A1']", True),
        ("items.1.sku starts_with 'B'", True),
        ("items.1.sku ends_with 'B'", False),
        ("exists(nothing)", True),
        ("exists(items.2)", False),
        ("not_exists(items.2.sku)", True),
        ("exists(nobody) && nobody > 1", False),
        ("!exists(nobody) || nobody > 1", True),
        ("tests.passed", True),
        ("!tests.passed", False),
        ("tests.by.suite.unit == 3", True),
        ("tests.failed == 0", True),
        ("n is_type integer && n is_type number && one is_type integer", True),
        ("half is_type integer || yes is_type number || yes is_type integer || nan is_type integer", False),
        ("yes is_type boolean && nothing is_type null && text is_type string", True),
        ("tags is_type array && tests is_type object", True),
        ("true", True),
        ("false || no", False),
    ],
)
def test_a_condition_is_evaluated(text: str, expected: bool) -> None:
    assert evaluate(parse_condition(text), SCOPE) is expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nobody == 1", ["no value at nobody", "exists(nobody) && nobody == 1"]),
        ("nobody != 1", ["no value at nobody"]),
        ("!(nobody == 1)", ["no value at nobody"]),
        ("nobody", ["no value at nobody"]),
        ("nobody is_type null", ["no value at nobody"]),
        ("items.9.sku in ['x']", ["no value at items.9.sku"]),
        ("text == done", ["no value at done", 'put it in quotes: "done"']),
        ("text > 1", ['text is a string ("abc")', "the value is a number (1)", 'text is_type "number"']),
        ("n < 'x'", ["n is a number (1)", 'the value is a string ("x")']),
        ("n < text", ["n is a number (1)", 'text is a string ("abc")']),
        ("yes > 0", ["yes is a boolean (true)"]),
        ("nothing < 1", ["nothing is null"]),
        ("nan < 1", ["nan is a number (NaN)"]),
        ("text contains 1", ["the value is a number (1)"]),
        ("n contains 1", ["n is a number (1)", 'n is_type "array"']),
        ("n in text", ["n is a number (1)", 'text is_type "array"']),
        ("n starts_with '1'", ["n is a number (1)"]),
        ("n", ["n is a number (1)", "n == 1"]),
        ("yes && text", ['text == "abc"']),
    ],
)
def test_what_cannot_be_evaluated_is_an_error_and_never_false(text: str, parts: list[str]) -> None:
    with pytest.raises(ConditionError) as caught:
        evaluate(parse_condition(text), SCOPE)

    assert [part for part in parts if part not in str(caught.value)] == []
    assert caught.value.field in text
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_messages_are_short_whatever_the_values_are() -> None:
    large = {"a": ["x" * 100_000] * 100_000, "b": 10**5_000, "c": {"k": "x" * 10**6}}
    condition = parse_condition("a > '" + "y" * 9_000 + "' && true")
    with pytest.raises(ConditionError) as caught:
        evaluate(condition, large)

    assert len(str(caught.value)) < 1_000
    with pytest.raises(ConditionError, match="an integer of 16,610 bits"):
        evaluate(parse_condition("b contains 1"), large)
    assert why_false(parse_condition("c == 1"), large).startswith('c == 1 is false: c is {"k": "xxx')


def test_only_what_decides_is_evaluated() -> None:
    assert evaluate(parse_condition("no && nobody > 1"), SCOPE) is False
    assert evaluate(parse_condition("yes || nobody > 1"), SCOPE) is True
    with pytest.raises(ConditionError):
        evaluate(parse_condition("nobody > 1 && no"), SCOPE)


def test_values_of_a_hundred_levels_are_compared() -> None:
    one: Any = 1
    other: Any = 1.0
    for _ in range(199):
        one, other = [one], [other]
    same = {"field": "a", "operator": "equals", "value_field": "b"}

    assert evaluate(same, {"a": one, "b": other}) is True
    assert evaluate(same, {"a": one, "b": [other]}) is False


def test_fields_are_in_order_and_without_repetition() -> None:
    condition = parse_condition("b > a.x && (exists(c) || !(b == 2)) && flag && true && 'x' in a.x")

    assert fields_of(condition) == ("b", "a.x", "c", "flag")
    assert fields_of(True) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("half >= 0.8", "half >= 0.8 is false: half is 0.5"),
        ("yes && half >= 0.8 && nobody", "half >= 0.8 is false: half is 0.5"),
        ("n == 2 || no", "n == 2 is false: n is 1; no is false"),
        ("!(n == 1 && yes)", "n == 1 is true: n is 1; yes is true"),
        ("!(no || n == 1)", "n == 1 is true: n is 1"),
        ("n == half", "n == half is false: n is 1, half is 0.5"),
        ("exists(nobody)", "exists(nobody) is false: nobody is absent"),
        ("yes && false", "the condition is false"),
    ],
)
def test_a_false_condition_is_explained(text: str, expected: str) -> None:
    assert evaluate(parse_condition(text), SCOPE) is False
    assert why_false(parse_condition(text), SCOPE) == expected


def test_an_explanation_is_bounded() -> None:
    condition = parse_condition(" || ".join(f"text == '{place}'" for place in range(100)))

    assert len(why_false(condition, SCOPE)) == MAX_EXPLANATION
    assert why_false(condition, SCOPE).endswith("...")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("later == 1", None),
        ("n == later", None),
        ("exists(later.x)", None),
        ("n == 1", True),
        ("n == 2", False),
        ("exists(nobody)", False),
        ("later && n == 2", False),
        ("later && n == 1", None),
        ("later || n == 1", True),
        ("later || n == 2", None),
        ("!(later || yes)", False),
        ("!later", None),
        ("n == 2 && nobody > 1", False),
        ("later && nobody > 1", None),
        ("later && nobody > 1 && n == 2", None),
        ("false", False),
    ],
)
def test_an_outcome_is_known_as_soon_as_it_is_certain(text: str, expected: bool | None) -> None:
    assert outcome(parse_condition(text), SCOPE, lambda path: path.startswith("later")) is expected


def test_an_outcome_that_is_certainly_an_error_is_one() -> None:
    with pytest.raises(ConditionError):
        outcome(parse_condition("nobody > 1 && later"), SCOPE, lambda path: path == "later")
