"""Documents that are small as text and large as values: refused while they are parsed, after few steps."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.errors import RequestRefused
from anabranch.core.json_documents import load_document
from anabranch.core.yaml_documents import MAX_DEPTH, MAX_WRITTEN
from anabranch.sdk.request_file import read_document


class _TooManySteps(Exception):
    pass


def steps(work: Callable[[], object], limit: int) -> int:
    """The number of Python and C calls of `work`, which is ended if there are more than `most`."""
    count = 0

    def counted(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")
        if count > limit:
            sys.setprofile(None)
            raise _TooManySteps(f"over {limit:,} calls")

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def refusal(text: str | bytes, format: Any = "yaml") -> str:
    """The code of the one problem of a document that is refused."""
    with pytest.raises(RequestRefused) as refused:
        load_document(text, format)
    [problem] = refused.value.errors
    return str(problem.code)


def levels(count: int, line: str) -> str:
    """Anchors `a0`, `a1` ..., each of which names the one before."""
    return "a0: &a0 {x: 1}\n" + "".join(line.format(n=n, before=n - 1) for n in range(1, count))


MERGE_LIST = f"b: &b {{{', '.join(f'k{n}: 1' for n in range(1_000))}}}\nm: {{<<: [{', '.join(['*b'] * 12_000)}]}}"
ATTACKS = {
    "an alias inside of itself": ("&a [*a, *a]", 1_000),
    "an alias below itself": ("a: &a {b: [*a]}", 2_000),
    "ten aliases of ten": (levels(9, "a{n}: &a{n} [" + ", ".join(["*a{before}"] * 10) + "]\n"), 50_000),
    "a list of merge keys": (MERGE_LIST, 600_000),
    "merge keys of merge keys": (levels(40, "a{n}: &a{n} {{<<: [*a{before}, *a{before}], y{n}: 1}}\n"), 100_000),
    "a long text, again and again": (f'a: &a "{"x" * 50_000}"\nb: [{", ".join(["*a"] * 5_000)}]', 600_000),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_multiplying_aliases_are_refused_while_the_document_is_composed(name: str) -> None:
    text, limit = ATTACKS[name]

    def read() -> None:
        assert refusal(text) == "not_yaml"

    assert steps(read, limit) <= limit


def test_aliases_and_merge_keys_within_the_budget_are_read() -> None:
    document = load_document(
        "b: &b {x: 1, y: 2}\nc: {<<: *b, x: 3}\nd: {z: 1, <<: [{x: 9}, *b]}\ne: [*b, *b]", "yaml"
    )

    assert document["c"] == {"x": 3, "y": 2}
    assert document["d"] == {"x": 9, "y": 2, "z": 1}
    assert document["e"] == [{"x": 1, "y": 2}] * 2


def test_an_alias_is_as_deep_as_what_it_names() -> None:
    def chain(length: int) -> str:
        return levels(length, "a{n}: &a{n} [*a{before}]\n")

    assert load_document(chain(MAX_DEPTH - 1), "yaml")
    assert refusal(chain(MAX_DEPTH)) == "too_deep"


@pytest.mark.parametrize(
    "text",
    ["[" * 20_000, "- " * 20_000, "? " * 20_000, "{a: " * 20_000, "".join(" " * n + "a:\n" for n in range(2_000))],
    ids=["list", "items", "keys", "objects", "indented"],
)
def test_yaml_that_is_too_deep_is_left_at_that_depth(text: str) -> None:
    def read() -> None:
        assert refusal(text) == "too_deep"

    assert steps(read, 700_000)


def test_the_number_of_values_in_a_file_is_limited() -> None:
    assert refusal("- a\n" * (MAX_WRITTEN + 1)) == "too_large"


@pytest.mark.parametrize("format", ["json", "yaml"])
@pytest.mark.parametrize("item", ["[],", "0,", "{},", '"",'])
def test_values_of_json_are_counted_before_any_is_built(item: str, format: Any) -> None:
    text = "[" + item * 600_000 + "1]"

    def read() -> None:
        assert refusal(text, format) == "too_large"

    assert steps(read, 1_000)


def test_json_of_a_megabyte_is_read_whatever_is_in_it() -> None:
    assert len(load_document("[" + "[]," * 333_000 + "1]")) == 333_001
    assert len(load_document("[" + "0," * 499_990 + "1]")) == 499_991
    assert load_document('["' + "," * 900_000 + '\\"{[,"]') == ["," * 900_000 + '"{[,']


def test_bytes_beyond_any_request_are_not_parsed() -> None:
    for format in ("json", "yaml"):
        assert refusal(b" " * 20_000_001, format) == "too_large"


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [
        "1234567890123456789",
        "-1234567890123456789",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "0",
        "-1",
    ],
)
def test_whole_numbers_are_what_they_are_in_json(number: str) -> None:
    read, expected = load_document(f"a: {number}", "yaml")["a"], load_document(number)

    assert (read, type(read)) == (expected, type(expected))


@pytest.mark.parametrize("number", ["1" * 400, "-" + "1" * 400, "1e999", "1" * 5_000])
def test_a_number_without_an_end_is_refused_as_in_json(number: str) -> None:
    assert refusal(number, "json") == "not_json"
    assert refusal(f"a: {number}") == "not_yaml"


def test_an_escaped_surrogate_pair_is_one_character() -> None:
    assert load_document('a: "x\\ud83d\\ude00y \\u65e5"', "yaml") == {"a": "x\U0001f600y \u65e5"}


@pytest.mark.parametrize("text", ["\\ud83d", "\\ude00", "\\ude00\\ud83d", "\\ud83d \\ude00"])
def test_half_a_surrogate_pair_is_refused_where_it_stands(text: str) -> None:
    with pytest.raises(RequestRefused, match=r"lone surrogate.*line 2, column 4"):
        load_document(f'a: 1\nb: "{text}"', "yaml")


def test_all_json_is_yaml() -> None:
    text = '\t{"a":\t"x\u2028y\u0085z\x7f",\n\t"' + "k" * 2_000 + '": ["\\ud83d\\ude00", "\\/", 1E2]}'

    assert load_document(text, "yaml") == load_document(text, "json")


@pytest.mark.parametrize(
    "text", ["{word}", "{ word }", "{item.name}", "[1, {word}]", "{{word}}", "{w} and {v}", "{a b}"]
)
def test_a_placeholder_without_quotation_marks_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        load_document(f"a: 1\nb: {text}", "yaml")

    [problem] = refused.value.errors
    assert problem.code == "not_yaml"
    assert "line 2" in problem.message
    assert problem.hint is not None
    assert 'write "{' in problem.hint


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{word: null}", {"word": None}),
        ("{word: }", {"word": None}),
        ("{word:}", {"word": None}),
        ("{? word}", {"word": None}),
        ("{a, b}", {"a": None, "b": None}),
        ('{"word"}', {"word": None}),
        ("{}", {}),
        ("x {word}", "x {word}"),
        ('"{word}"', "{word}"),
        ("[a: ]", [{"a": None}]),
        ("{a: b}", {"a": "b"}),
    ],
)
def test_unambiguous_yaml_objects_are_read(text: str, value: object) -> None:
    assert load_document(f"b: {text}", "yaml") == {"b": value}


# --- files -----------------------------------------------------------------------------------------


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(RequestRefused) as refused:
        read_document(Path("/dev/zero"))

    assert [problem.code for problem in refused.value.errors] == ["too_large"]


PAIRS = st.recursive(
    st.sampled_from(["1", '"x"', r'"a\"b"', r'"\u0022"', r'"\\u0022"', "null"]),
    lambda inner: st.lists(
        st.tuples(st.sampled_from(["a", "b", r"\u0061", r"\"", r"\u0022", "ü"]), inner), max_size=3
    ).map(lambda pairs: "{" + ",".join(f'"{key}": {value}' for key, value in pairs) + "}"),
    max_leaves=6,
)
"""JSON whose objects may have a key twice, also in two spellings."""


@given(PAIRS)
def test_a_key_twice_is_found_in_each_spelling(text: str) -> None:
    found: list[bool] = []
    json.loads(text, object_pairs_hook=lambda pairs: found.append(len(dict(pairs)) < len(pairs)))

    if any(found):
        with pytest.raises(RequestRefused, match="twice"):
            load_document(text)
    else:
        assert load_document(text) == json.loads(text)
