"""The text form of conditions: what it parses to, how mistakes are reported, and its limits."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.conditions import InvalidCondition, normalized, parse_condition, to_text
from anabranch.core.conditions.checks import MAX_DEPTH, MAX_TERMS, MAX_TEXT


def term(field: str, operator: str, *value: Any) -> dict[str, Any]:
    return {"field": field, "operator": operator} | ({"value": value[0]} if value else {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "tests.passed == true && score >= 0.8",
            {"all": [term("tests.passed", "equals", True), term("score", "greater_or_equal", 0.8)]},
        ),
        ("a != 1", term("a", "not_equals", 1)),
        ("a > -1.5e3", term("a", "greater_than", -1500.0)),
        ("a<2", term("a", "less_than", 2)),
        ("a <= 'x'", term("a", "less_or_equal", "x")),
        ("a == null", term("a", "equals", None)),
        ("a == [1, 'two', {\"three\": [3]}]", term("a", "equals", [1, "two", {"three": [3]}])),
        ("a in ['x', \"y\"]", term("a", "in", ["x", "y"])),
        ("a not in []", term("a", "not_in", [])),
        ("a not_in [1]", term("a", "not_in", [1])),
        ("tags contains 'x'", term("tags", "contains", "x")),
        ("tags not contains 1", term("tags", "not_contains", 1)),
        ("contains(tags, 'x')", term("tags", "contains", "x")),
        ("'x' in tags", term("tags", "contains", "x")),
        ("'x' not in tags", term("tags", "not_contains", "x")),
        ("'abc' contains part", term("part", "in", "abc")),
        ("1 == a", term("a", "equals", 1)),
        ("1 < a", term("a", "greater_than", 1)),
        ("1 >= a", term("a", "less_or_equal", 1)),
        ("exists(a.b.0)", term("a.b.0", "exists")),
        ("not_exists( a )", term("a", "not_exists")),
        ("name starts_with 'v'", term("name", "starts_with", "v")),
        ("ends_with(name, '.md')", term("name", "ends_with", ".md")),
        ('a is_type "integer"', term("a", "is_type", "integer")),
        ("a is_type integer", term("a", "is_type", "integer")),
        ("a is_type null", term("a", "is_type", "null")),
        ("flag", term("flag", "is_true")),
        ("!flag", {"not": term("flag", "is_true")}),
        ("!!flag", {"not": {"not": term("flag", "is_true")}}),
        ("!exists(a)", {"not": term("a", "exists")}),
        ("!(a == 1)", {"not": term("a", "equals", 1)}),
        ("true", True),
        ("!false", {"not": False}),
        ("score < limits.upper", {"field": "score", "operator": "less_than", "value_field": "limits.upper"}),
        ("who in people", {"field": "who", "operator": "in", "value_field": "people"}),
        ("a || b && c", {"any": [term("a", "is_true"), {"all": [term("b", "is_true"), term("c", "is_true")]}]}),
        ("(a || b) && c", {"all": [{"any": [term("a", "is_true"), term("b", "is_true")]}, term("c", "is_true")]}),
        ("(a && b) && c", {"all": [{"all": [term("a", "is_true"), term("b", "is_true")]}, term("c", "is_true")]}),
        ("((a))", term("a", "is_true")),
        ("build-result.größe/2 == 1", term("build-result.größe/2", "equals", 1)),
        ("`2nd key.x` == 1", term("2nd key.x", "equals", 1)),
        ("`true` == 1", term("true", "equals", 1)),
        ("exists == 1", term("exists", "equals", 1)),
        ("in in [1] && contains", {"all": [term("in", "in", [1]), term("contains", "is_true")]}),
        (r"a == 'it\'s'", term("a", "equals", "it's")),
        (r'a == "\u00e9\ud83d\ude00\n\"`"', term("a", "equals", 'é😀\n"`')),
        (" a\n ==\t1 ", term("a", "equals", 1)),
    ],
)
def test_a_text_is_parsed_into_data(text: str, expected: Any) -> None:
    parsed = parse_condition(text)

    assert parsed == expected
    assert type(parsed) is type(expected)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "the condition is empty"),
        ("  ", 1, "the condition is empty"),
        ("a = 1", 3, "write =="),
        ("a === 1", 5, "write =="),
        ("a & b", 3, "write &&"),
        ("a == 1 and b == 2", 8, "write && in place of `and`"),
        ("not (a == 1)", 1, "write ! in place of `not`"),
        ("not a", 1, "write ! in place of `not`"),
        ("!a == 1", 4, r"write !\(a == 1\)"),
        ("!a in [1]", 4, r"write !\(a == 1\)"),
        ("(a) == 1", 5, "expected `&&`"),
        ("(a == 1", 8, r"expected `\)`, found the end"),
        ("a == 1)", 7, r"found `\)`"),
        ("a ==", 5, "expected a path or a literal, found the end"),
        ("a == == 1", 6, "found `==`"),
        ("a == 'x", 6, "close it with '"),
        (r"a == '\x41'", 6, "unknown escape"),
        ("{score} >= 0.8", 2, "without braces"),
        ("{{ score }} >= 0.8", 2, "without braces"),
        ("${{ score }}", 1, r"without \$\{"),
        ("items[0] == 1", 6, "items.0"),
        ("1 == 2", 1, "two literals"),
        ("'a'", 4, "a literal alone is not a condition"),
        ("null", 5, "a literal alone is not a condition"),
        ("a in 5", 6, r"write \[5\]"),
        ("a in [b]", 7, 'texts in quotes: "b"'),
        ("a in [1 2]", 9, "expected `,`"),
        ("a == {1: 2}", 7, "a key in quotes"),
        ("a == {'k': 1, 'k': 2}", 15, "twice"),
        ("a > true", 5, "compares numbers or strings"),
        ("a starts_with 1", 15, "needs a string"),
        ("'x' starts_with a", 1, "left side"),
        ("a is_type text", 11, "compares with a literal"),
        ("a is_type 'text'", 11, "one of string, number"),
        ("exists('a')", 8, "takes a path"),
        ("success()", 1, "unknown function `success`"),
        ("startsWith(a, 'x')", 1, "write starts_with"),
        ("a not 1", 7, "`in` or `contains` after `not`"),
        ("01 == a", 1, "not a JSON number"),
        ("a == 1.", 6, "not a JSON number"),
        ("a..b == 1", 1, "empty part"),
        ("`2nd key`.x == 1", 10, "unexpected '.'"),
        ("a. == 1", 1, "empty part"),
        ("a == 1" + 30 * "0", 6, "64 bits"),
    ],
)
def test_a_mistake_is_reported_with_its_column(text: str, column: int, message: str) -> None:
    with pytest.raises(InvalidCondition, match=message) as caught:
        parse_condition(text)

    assert caught.value.column == column
    assert str(caught.value).startswith(f"column {column}: ")


@pytest.mark.parametrize(
    "text", ["a == 1e999", "a == 99999999999999999999", r"a == '\ud800'", "`a{b}` == 1", r"`a\ud800` == 1"]
)
def test_what_json_cannot_have_is_refused(text: str) -> None:
    with pytest.raises(InvalidCondition):
        parse_condition(text)


@pytest.mark.parametrize("opening", ["(", "!", "!(", "a == [", 'a == {"a":'])
@pytest.mark.parametrize("count", [MAX_DEPTH + 1, 1_900])
def test_deep_texts_are_refused_and_do_not_exhaust_the_stack(opening: str, count: int) -> None:
    first = opening.removeprefix("a == ")
    text = "a == " * ("==" in opening) + first * count

    with pytest.raises(InvalidCondition, match="deeper than 32 levels"):
        parse_condition(text)


def test_the_deepest_text_is_accepted() -> None:
    text = "!" * (MAX_DEPTH - 1) + "a"

    assert to_text(parse_condition(text)) == text
    with pytest.raises(InvalidCondition, match="deeper than 32 levels"):
        parse_condition("!" + text)
    assert parse_condition("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH) == parse_condition("a")


def test_alternating_groups_count_each_level() -> None:
    text = "a && " + "(b || (a && " * 16 + "a" + "))" * 16

    with pytest.raises(InvalidCondition, match="deeper than 32 levels"):
        parse_condition(text)


def test_long_texts_are_refused_and_the_longest_is_not() -> None:
    at_limit = "a == '" + "x" * (MAX_TEXT - 7) + "'"

    assert parse_condition(at_limit)["operator"] == "equals"
    with pytest.raises(InvalidCondition, match="10,001 characters"):
        parse_condition(at_limit + " ")
    assert len(parse_condition("||".join(["a"] * MAX_TERMS))["any"]) == MAX_TERMS
    with pytest.raises(InvalidCondition, match="more than 1,000 comparisons"):
        parse_condition("||".join(["a"] * (MAX_TERMS + 1)))


def test_the_text_of_data_keeps_its_groups() -> None:
    a, b, c = (parse_condition(each) for each in ("a", "b == 1", "exists(c)"))

    assert to_text({"any": [{"all": [a, b]}, c]}) == "a && b == 1 || exists(c)"
    assert to_text({"all": [{"any": [a, b]}, {"not": b}]}) == "(a || b == 1) && !(b == 1)"
    assert to_text({"not": {"all": [{"any": [a, c]}]}}) == "!(a || exists(c))"
    assert to_text({"all": [{"all": [a, b]}, {"not": c}]}) == "(a && b == 1) && !exists(c)"
    assert to_text({"field": "2nd `key`", "operator": "equals", "value": 'é"\n'}) == '`2nd \\`key\\`` == "é\\"\\n"'
    assert to_text(normalized({"any": ["a not in [1]", True]})) == "a not in [1] || true"
