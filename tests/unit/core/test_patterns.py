"""Regular expressions of payload schemas: the same answers as `re`, in bounded time."""

from __future__ import annotations

import re

import pytest
from counted_work import calls_of
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.core.waits.patterns import MAX_STEPS, Pattern, PatternRefused

ATOMS = st.sampled_from(
    [
        "a",
        "b",
        ".",
        "[ab]",
        "[^a]",
        r"\d",
        r"\w",
        r"\W",
        r"\s",
        "[a-c1]",
        "^",
        "$",
        r"\b",
        r"\B",
        r"\A",
        r"\Z",
        "é",
    ]
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?"])).map(
            lambda pair: f"({pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS, st.text("ab1 _é\n", max_size=12))
@settings(max_examples=600, deadline=None)
def test_the_answer_is_that_of_re(source: str, text: str) -> None:
    assert Pattern(source).search(text) is (re.search(source, text) is not None)


@pytest.mark.parametrize(
    "source", ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(.*)(.*)(.*)(.*)[b]$", "^(([a-z])+.)+[A-Z]$"]
)
def test_expressions_that_take_re_years_take_a_few_calls_a_character(source: str) -> None:
    assert not Pattern(source).search("a" * 10_000 + "!")
    calls_of(lambda: Pattern(source).search("a" * 10_000 + "!"), 20 * 10_000)


@pytest.mark.parametrize(
    "source",
    [
        "(",
        "(?i)a",
        "(?=a)b",
        r"(a)\1",
        "(?<=a)b",
        "a{1000}{1000}",
        "(((a{9}){9}){9}){9}",
        "(?>a)",
        "(?i:a)",
        "[z-a]",
    ],
)
def test_what_cannot_be_searched_is_refused(source: str) -> None:
    with pytest.raises(PatternRefused):
        Pattern(source)


def test_a_text_that_is_too_long_for_an_expression_is_refused() -> None:
    with pytest.raises(PatternRefused, match="too long"):
        Pattern("^a{500}$").search("a" * (MAX_STEPS // 500))
