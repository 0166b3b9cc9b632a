"""Arbitrary input at the edges: an answer or a typed error, never anything else, and in bounded time.

`make fuzz` runs these again and again, with other input each time: ANABRANCH_FUZZ_EXAMPLES for each test.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

import orjson
import pytest
from counted_work import calls_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anabranch.core.durations import parse_duration
from anabranch.core.errors import Code, ExpansionError
from anabranch.core.expansion.filters import parse_condition
from anabranch.core.expansion.transform_rules import apply_rules, check_rules
from anabranch.core.names import split_reference
from anabranch.core.request.admission import parse_request, read_request, session_candidates
from anabranch.core.request.envelope import unwrap
from anabranch.core.request.models import TransformRules
from anabranch.core.templates import RenderedTooLarge, placeholders, render
from anabranch.core.wire.codec import GROUPS, RUNS, TASKS, Undecodable, encode, split
from anabranch.core.wire.messages import Offer, OnGroups, OnRuns

EXAMPLES = int(os.environ.get("ANABRANCH_FUZZ_EXAMPLES", "0"))
CODES = {str(code) for code in Code}

fuzzed = settings(
    max_examples=EXAMPLES or 20,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=12,
)
_FIELDS = (
    "type v segments request_id session_id run_id context timeout task_groups name tasks agent agent_class inputs "
    "result_keys dependencies expansion_config array_mapping transform_rules filter sequence chunk combine zip "
    "retry strategy max_attempts tolerated_failures object key action labels include exclude identifiers group "
    "task fence members worker payload started ended values epoch"
)
_VALUES = "a a? [1] 5% 1h array matrix custom task_group:1 initialize"
FIELDS = st.sampled_from(_FIELDS.split(" "))
LIKELY = st.recursive(
    JSON | st.sampled_from(_VALUES.split(" ")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=6),
    max_leaves=15,
)
"""Documents that have the fields of requests and messages, with anything in them."""


@fuzzed
@given(st.binary(max_size=300), st.sampled_from(["json", "yaml"]))
def test_any_bytes_are_a_reading(data: bytes, format: Any) -> None:
    reading = parse_request(data, format)
    assert {str(problem.code) for problem in reading.errors} <= CODES
    assert (reading.request is None) == bool(reading.errors)


YAMLISH = st.lists(
    st.sampled_from(
        ["&a ", "*a", "<<: ", "!!int ", "!!bool ", "!!set ", "!!map ", "? ", "- ", "a: ", "[", "]", "{", "}", ",",
         "\n", "  ", "'", '"', "|", ">", "1:2", ".inf", "0x1f", "1e5", "~", "%YAML 1.2\n---\n", "#", "=", "!"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@fuzzed
@given(YAMLISH)
def test_any_yaml_is_a_reading(text: str) -> None:
    reading = parse_request(text, "yaml")
    orjson.dumps([problem.to_document() for problem in reading.errors])


@fuzzed
@given(LIKELY)
def test_any_document_is_a_reading(document: Any) -> None:
    reading = read_request(document)
    assert {str(problem.code) for problem in reading.errors} <= CODES
    session_candidates(document)
    if reading.plan is not None and reading.request is not None:
        again = read_request(json.loads(orjson.dumps(reading.request.to_document())))
        assert again.request == reading.request


@fuzzed
@given(st.dictionaries(st.sampled_from(["object", "context", "key", "action"]), LIKELY))
def test_any_envelope_is_unwrapped(document: dict[str, Any]) -> None:
    sent = unwrap(document)
    assert isinstance(sent.request, Mapping)
    read_request(document)


@pytest.mark.parametrize("decode", [RUNS.decode, GROUPS.decode, TASKS.decode, split])
@fuzzed
@given(st.binary(max_size=200) | LIKELY.map(json.dumps).map(str.encode))
def test_any_bytes_are_a_message_or_undecodable(decode: Callable[[bytes], Any], data: bytes) -> None:
    try:
        decoded = decode(data)
    except Undecodable:
        return
    assert decoded


KINDS = st.sampled_from(list(get_args(OnRuns)[0].__args__ + get_args(OnGroups)[0].__args__ + (Offer,))).map(
    lambda model: model.model_fields["type"].default
)


@pytest.mark.parametrize("codec", [RUNS, GROUPS, TASKS])
@fuzzed
@given(st.data())
def test_a_message_with_any_fields_is_a_message_or_undecodable(codec: Any, data: st.DataObject) -> None:
    """Headers with the right version, a known type, and arbitrary other fields."""
    header = data.draw(st.dictionaries(FIELDS, LIKELY)) | {"v": 1, "type": data.draw(KINDS)}
    try:
        decoded = codec.decode(json.dumps(header).encode())
    except Undecodable:
        return
    assert codec.decode(encode(decoded.message, decoded.segments)).message == decoded.message


class Trap:
    """An object whose attributes would all break out of the template, which must never read one."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "__reduce_ex__", "__repr__", "__hash__", "__eq__"):
            return object.__getattribute__(self, name)
        raise AssertionError(f"a template asked for {name}")


BRACED = st.lists(
    st.sampled_from(
        ["{", "}", "{{", "}}", "x", ".", "a.b", "__class__", "!r", ":>9", ":{x}", "[0]", "0", "%s", "$x", " ", '"']
    )
    | st.text(max_size=3),
    max_size=25,
).map("".join)  # fmt: skip


@fuzzed
@given(BRACED, JSON, st.booleans())
def test_a_template_says_what_stands_in_it_and_in_its_names(text: str, value: Any, typed: bool) -> None:
    scope = {"x": value, "a": {"b": "B"}, "l": [1], "__class__": "plain"}
    shown = render([text, {"k": text}], scope, typed=typed)
    placeholders(text)
    if "{" not in text:
        assert shown == [text, {"k": text}]
    assert render(text, {}) == re.sub(r"\{(\{[^{}]{1,2000}\})\}", _unescaped, text)


def _unescaped(match: re.Match[str]) -> str:
    name = match[1][1:-1]
    literal = name.isprintable() and name == name.strip() and not name.startswith('"')
    return match[1] if literal else match[0]


@pytest.mark.parametrize(
    "text", ["{x.__class__}", "{x.__init__.__globals__}", "{x!r}", "{x:>9}", "{x[0]}", "{x.real}"]
)
@pytest.mark.parametrize("value", [1, "s", [1], {"a": 1}, None, 1.5, True])
def test_a_template_reaches_no_attribute_call_or_format(text: str, value: Any) -> None:
    assert render(text, {"x": value}) == text
    assert render(text, {"x": {"y": Trap()}}) == text


@pytest.mark.parametrize(
    "text",
    ["{" * 300_000, "{{" * 150_000, "{a" * 150_000, "{{a}" * 20_000, "{" + "a." * 150_000 + "}", "{a.}" * 20_000,
     "{" + "a" * 1_999 + "." + "{" * 300_000, "}" * 300_000],
)  # fmt: skip
def test_a_long_template_is_rendered_in_linear_work(text: str) -> None:
    calls_of(lambda: (render(text, {"a": "b"}), placeholders(text)), 20 * len(text))


@pytest.mark.parametrize("template", ["{x}" * 100, ["{x}"] * 100, {"a": ["{x}" * 50, {"b": "{x}" * 50}]}])
def test_a_text_that_would_not_fit_into_memory_is_not_made(template: Any) -> None:
    with pytest.raises(RenderedTooLarge, match="67,108,864 bytes"):
        render(template, {"x": "v" * 1_000_000})


def test_values_that_keep_their_type_are_shared_and_count_nothing() -> None:
    value = ["v" * 1_000_000]

    assert all(each is value for each in render(["{x}"] * 100, {"x": value}, typed=True))


CONDITIONS = st.sampled_from(["=", "==", "!=", ">", ">=", "<", "<=", "in ", "~", "in [", "in (", ""])


@fuzzed
@given(CONDITIONS, st.text(max_size=20) | JSON.map(json.dumps), JSON)
def test_any_condition_is_one_or_a_value_error(symbol: str, literal: str, value: Any) -> None:
    try:
        condition = parse_condition(symbol + literal)
    except ValueError:
        return
    assert condition.holds(value) in (True, False)


@pytest.mark.parametrize("literal", ["(a+)+$", ".*", "[", "\\", "(?P<a>", "a{99999999}"])
def test_the_tilde_searches_for_text_and_is_no_pattern(literal: str) -> None:
    condition = parse_condition(f"~{literal}")

    assert condition.holds(f"before {literal} after")
    assert not condition.holds("a" * 500_000 + "!")


@pytest.mark.parametrize(
    "text",
    [" " * 900_000 + "x", "=" + " " * 900_000, "=x" + " " * 900_000 + "x", "1" * 900_000, "1" * 900_000 + "x",
     "9" * 400 + "e9" * 400, "1e" + "1" * 900_000 + "x"],
)  # fmt: skip
def test_a_long_condition_is_read_in_linear_work(text: str) -> None:
    """Reading one is a few calls, but with the square of its length in steps it takes longer than a test may."""

    def read(symbol: str) -> None:
        with contextlib.suppress(ValueError):
            parse_condition(symbol + text).holds("9" * 5_000)
        assert not parse_condition("=1").holds(symbol + text)

    for symbol in ("=", ">", "in ", ""):
        calls_of(partial(read, symbol), 200)


@fuzzed
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "combine": st.lists(st.sampled_from(["x", "y", "z", "x.a"]), max_size=3),
            "zip": st.lists(st.sampled_from(["x", "y", "z"]), max_size=3),
            "filter": st.dictionaries(
                st.sampled_from(["x", "y", "x.a", "q"]), st.text(max_size=6) | st.integers()
            ),
            "sequence": st.dictionaries(
                st.sampled_from(["s", "x"]),
                st.fixed_dictionaries(
                    {"end": st.integers(-50, 50) | st.floats(-1e3, 1e3)},
                    optional={"start": st.integers(-50, 50), "step": st.floats(0.5, 9) | st.integers(-9, 9)},
                ),
            ),
            "chunk": st.integers(1, 4) | st.dictionaries(st.sampled_from(["x", "q"]), st.integers(1, 4)),
            "distinct": st.booleans() | st.sampled_from(["x", "x.a", "q"]),
        },
    ),
    st.lists(JSON, max_size=4),
    st.lists(JSON, max_size=4),
)
def test_any_rules_make_members_or_an_expansion_error(document: Any, x: list[Any], y: list[Any]) -> None:
    try:
        rules = TransformRules.model_validate(document)
    except ValueError:
        return
    check_rules(rules, ["x", "y"])
    try:
        product = apply_rules(rules, {"x": x, "y": y})
    except ExpansionError:
        return
    assert len(list(product.between(0, min(product.count, 50)))) == min(product.count, 50)


@fuzzed
@given(st.text(max_size=30) | JSON | st.integers() | st.floats())
def test_any_duration_is_seconds_or_a_value_error(value: Any) -> None:
    try:
        seconds = parse_duration(value)
    except ValueError:
        return
    assert 0 <= seconds <= 1e9


@fuzzed
@given(st.text(max_size=40))
def test_any_reference_is_split_or_a_value_error(address: str) -> None:
    try:
        session, key = split_reference(address)
    except ValueError:
        return
    assert f"{session}/{key}" == address
