"""Placeholders in strings and in JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.templates import compile_template, member_scope, placeholders, render

SCOPE = {
    "topic": "rivers",
    "n": 3,
    "half": 0.5,
    "yes": True,
    "nothing": None,
    "item": {"id": 7, "tags": ["a", "b"], "deep": {"er": {"est": "bottom"}}, "file.name": "x.txt"},
    "a.b": {"c": "longest", "d.e": "dotted key"},
    "a": {"b": {"c": "shorter", "only": "here"}},
    "2nd key": "second",
    "größe": {"ü": "ö"},
}
TEXT = st.text(alphabet='ab{}."é\n\u2028😀', max_size=8)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
BRACED = st.text(alphabet='{}ab. "\n:1', max_size=40)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("about {topic}.", "about rivers."),
        ("{topic}{topic}", "riversrivers"),
        ("{n} {half} {yes} {nothing}", "3 0.5 true null"),
        ("{item.tags}", '["a","b"]'),
        ("{größe}", '{"ü":"ö"}'),
        ("{item.deep.er.est}", "bottom"),
        ("{item.tags.1}", "b"),
        ("{item.tags.2} {item.tags.-1} {item.tags.x}", "{item.tags.2} {item.tags.-1} {item.tags.x}"),
        ("{item.file.name}", "x.txt"),
        ("{a.b.c} {a.b.d.e}", "longest dotted key"),
        ("{a.b.only}", "{a.b.only}"),
        ("{2nd key}", "second"),
        ("{unknown} {item.unknown} {topic.upper}", "{unknown} {item.unknown} {topic.upper}"),
        ("{item.__class__} {n.real} {topic!r} {n:>5} {topic()}",) * 2,
        ("{ topic } {} {{}} { {topic} }", "{ topic } {} {{}} { rivers }"),
        ('{"a": {"b": {n}}, "c": [{"d": 1}]}', '{"a": {"b": 3}, "c": [{"d": 1}]}'),
        ("{{topic}} {{unknown}} {{2nd key}} {{item.id}}", "{topic} {unknown} {2nd key} {item.id}"),
        ("${{ github.ref }} {{ topic }}", "${{ github.ref }} {{ topic }}"),
        ('{{"topic": 1}}', '{{"topic": 1}}'),
        ("{{{topic}}}", "{{topic}}"),
        ("{{topic} {topic}}", "{rivers rivers}"),
        ("a { b } c }{ {", "a { b } c }{ {"),
    ],
)
def test_a_template_renders(template: str, expected: str) -> None:
    assert render(template, SCOPE) == expected


def test_inserted_text_is_not_scanned_again() -> None:
    assert render("{a} {b}", {"a": "{b}", "b": "{{a}}"}) == "{b} {{a}}"


def test_nested_json_is_rendered_and_its_keys_are_left_alone() -> None:
    template = {"{topic}": ["{topic}", {"x": "{n}"}, 5, None], "plain": {"y": 1}}
    assert render(template, SCOPE) == {"{topic}": ["rivers", {"x": "3"}, 5, None], "plain": {"y": 1}}


def test_a_typed_placeholder_takes_the_value_with_its_type() -> None:
    template = {"n": "{n}", "item": "{item.deep}", "text": "n={n}", "gone": "{gone}", "lit": "{{n}}"}
    assert render(template, SCOPE, typed=True) == {
        "n": 3,
        "item": {"er": {"est": "bottom"}},
        "text": "n=3",
        "gone": "{gone}",
        "lit": "{n}",
    }


def test_a_template_without_placeholders_is_returned_itself() -> None:
    template = {"a": ["b", {"c": "} not one {"}], "n": 1}
    assert compile_template(template).render(SCOPE) is template


def test_escapes_in_nested_json_are_rendered_although_nothing_else_is() -> None:
    assert render({"a": ["{{n}}"]}, SCOPE) == {"a": ["{n}"]}


def test_values_that_need_more_than_64_bits_are_inserted() -> None:
    assert render("{x}", {"x": [2**80]}) == f"[{2**80}]"


def test_member_names_beat_system_names_beat_context() -> None:
    scope = member_scope({"a": 1}, {"a": 2, "index": 2, "c": 2}, {"index": 0, "a": 3})
    assert render("{a} {index} {c} {d}", scope) == "1 0 2 {d}"
    assert dict(scope) == {"a": 1, "index": 0, "c": 2}
    assert len(scope) == 3
    with pytest.raises(KeyError):
        scope["d"]


def test_placeholders_finds_candidates_at_any_depth_but_no_escapes() -> None:
    template = {"{key}": ["{a.b} {{esc}}", {"x": "{c d}"}], "y": '{"json": 1}', "z": "{\n}"}
    assert placeholders(template) == {"a.b", "c d", '"json": 1'}


def test_a_very_long_candidate_is_text() -> None:
    long = "{" + "a." * 5000 + "}"
    assert render(long, {"a": 1}) == long


@given(BRACED, st.dictionaries(st.text(alphabet="ab.", min_size=1, max_size=3), JSON_VALUES, max_size=4))
def test_rendering_never_raises_and_agrees_with_its_compiled_form(text: str, scope: dict[str, object]) -> None:
    rendered = render(text, scope)
    assert isinstance(rendered, str)
    assert compile_template([text], typed=False).render(scope) == [rendered]


@given(BRACED)
def test_what_does_not_resolve_stays(text: str) -> None:
    assert render(text, {}) == text or "{{" in text


@given(JSON_VALUES)
def test_an_inserted_value_reads_back(value: object) -> None:
    text = render("{v}", {"v": value})
    assert text == value if isinstance(value, str) else json.loads(text) == value


@given(JSON_VALUES)
def test_a_typed_placeholder_is_the_very_value(value: object) -> None:
    assert render(["{v}"], {"v": value}, typed=True)[0] is value
