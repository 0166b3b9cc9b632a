"""From a task to its members."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.members import as_list, expand, lookup_path, member_name, sources
from anabranch.core.request.models import Expansion
from anabranch.core.templates import member_scope, render

DOCS = [{"id": "a", "meta": {"n": 1}}, {"id": "b", "meta": {"n": 2}}]
CONFIGS = st.one_of(
    st.tuples(st.just("array"), st.none()),
    st.tuples(st.just("matrix"), st.none()),
    st.tuples(st.just("custom"), st.sampled_from([{"combine": ["x", "y"]}, {"chunk": 2}, {"distinct": True}])),
)


def config(kind: str = "array", **fields: Any) -> Expansion:
    return Expansion.model_validate({"type": kind, **fields})


def test_array_items_give_members_in_order() -> None:
    members = list(expand(config(array_mapping={"doc": "docs"}), {"doc": DOCS}).members())
    assert [member.index for member in members] == [0, 1]
    assert [member.variables for member in members] == [{"doc": DOCS[0]}, {"doc": DOCS[1]}]
    assert members[1].scope == {"doc": DOCS[1], "id": "b", "meta": {"n": 2}}
    assert [member.identifier for member in members] == ["0", "1"]
    assert member_name("read", members[1].index) == "read_2"


def test_zipped_arrays_must_have_one_length() -> None:
    mapping = config(array_mapping={"x": "xs", "y": "ys"})
    members = list(expand(mapping, {"x": [1, 2], "y": ["a", "b"]}).members())
    assert [member.variables for member in members] == [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]
    with pytest.raises(ExpansionError, match="'x' has 2, 'y' has 3 items"):
        expand(mapping, {"x": [1, 2], "y": [1, 2, 3]})


def test_a_matrix_goes_first_key_slowest() -> None:
    members = expand(
        config("matrix", array_mapping={"row": ["A", "B"], "col": [1, 2, 3]}),
        {"row": ["A", "B"], "col": [1, 2, 3]},
    ).members()
    cells = [render("{row}{col}", member.scope) for member in members]
    assert cells == ["A1", "A2", "A3", "B1", "B2", "B3"]


def test_a_matrix_of_includes_alone_has_their_keys_as_variables() -> None:
    expanded = expand(config("matrix", include=[{"os": "x", "deep": {"er": 1}}]), {})
    (member,) = expanded.members()
    assert member.variables == {"os": "x", "deep": {"er": 1}}
    assert render("{os} {er} {deep.er}", member.scope) == "x 1 1"


def test_a_loop_variable_beats_a_field_and_the_first_item_beats_the_second() -> None:
    arrays: dict[str, Any] = {"x": [{"y": "field", "k": 1}], "y": [{"k": 2, "z": 3}]}
    (member,) = expand(config(array_mapping={"x": "xs", "y": "ys"}), arrays).members()
    assert render("{y} {k} {z}", member.scope) == '{"k":2,"z":3} 1 3'


def test_the_index_counts_from_0_whatever_the_item_says() -> None:
    (member,) = expand(config(array_mapping={"item": "xs"}), {"item": [{"index": 7, "run_id": "mine"}]}).members()
    scope = member_scope(member.scope, {}, {"index": 0, "run_id": "r"})
    assert render("{index} {run_id} {item.index}", scope) == "0 r 7"
    (member,) = expand(config(array_mapping={"index": "xs"}), {"index": [7]}).members()
    assert render("{index}", member_scope(member.scope, {}, {"index": 0})) == "7"


@pytest.mark.parametrize("path", ["doc.meta.n", "meta.n"])
def test_identifiers_are_paths_from_the_variable_or_the_item(path: str) -> None:
    mapping = config(array_mapping={"doc": "docs"}, identifiers={"number": path, "name": "doc.id"})
    members = list(expand(mapping, {"doc": DOCS}).members())
    assert [member.identifier for member in members] == ["1", "2"]
    assert render("{number}-{name}", members[1].scope) == "2-b"
    assert members[1].variables == {"doc": DOCS[1]}


def test_an_item_without_the_field_fails_alone() -> None:
    mapping = config(array_mapping={"doc": "docs"}, identifiers={"id": "doc.id"}, output_format="separate")
    members = list(expand(mapping, {"doc": [{"id": 1}, {"no": 2}, 5, {"id": None}]}).members())
    assert [member.identifier for member in members] == ["1", None, None, "null"]
    assert members[1].error == "the item has no 'doc.id', which identifies it as 'id'"
    assert [member.error is None for member in members] == [True, False, False, True]


def test_separate_refuses_a_repeated_identifier() -> None:
    mapping = config(array_mapping={"doc": "docs"}, identifiers={"id": "id"}, output_format="separate")
    arrays = {"doc": [*DOCS, {"id": "a"}]}
    with pytest.raises(ExpansionError, match="members 0 and 2 have the same identifier, 'a'"):
        expand(mapping, arrays)
    assert expand(mapping, arrays, check_identifiers=False).count == 3
    assert expand(mapping.model_copy(update={"output_format": "merge"}), arrays).count == 3


def test_more_members_than_the_limit_are_refused() -> None:
    mapping = config("matrix", array_mapping={"x": "xs", "y": "ys"})
    with pytest.raises(ExpansionError, match="1001000 members, over the limit of 1000000"):
        expand(mapping, {"x": range(1000), "y": range(1001)})
    with pytest.raises(ExpansionError, match="12 members, over the limit of 10"):
        expand(mapping, {"x": range(3), "y": range(4)}, limit=10)


def test_no_items_are_no_members() -> None:
    expanded = expand(config(array_mapping={"x": "xs"}), {"x": []})
    assert expanded.count == 0
    assert list(expanded.members()) == []


def test_an_array_expansion_of_nothing_is_refused() -> None:
    with pytest.raises(ExpansionError, match="names no array"):
        expand(config(), {})


def test_a_range_of_a_million_members_is_made_alone() -> None:
    sequence = {"sequence": {"n": {"start": 1, "end": 1_000_000}}}
    expanded = expand(config("custom", transform_rules=sequence), {})
    assert expanded.count == 1_000_000
    assert [member.variables["n"] for member in expanded.members(999_998)] == [999_999, 1_000_000]


@given(CONFIGS, st.integers(0, 6), st.integers(0, 14), st.integers(0, 40), st.integers(0, 40))
def test_a_range_of_members_is_a_slice_of_all(kind: Any, n: int, m: int, start: int, stop: int) -> None:
    arrays: dict[str, Any] = {
        "x": [{"id": i, "v": i // 2} for i in range(n)],
        "y": list(range(m if kind[0] == "matrix" else n)),
    }
    mapping = config(kind[0], array_mapping={"x": "xs", "y": "ys"}, transform_rules=kind[1])
    expanded = expand(mapping, arrays)
    everything = list(expanded.members())
    assert len(everything) == expanded.count
    assert [member.index for member in everything] == list(range(expanded.count))
    assert list(expanded.members(start, stop)) == everything[start:stop]


def test_sources_say_where_each_array_comes_from() -> None:
    assert sources(config(array_mapping={"x": "a.b", "y": [1, 2]})) == {"x": "a.b", "y": [1, 2]}
    rules = {
        "combine": ["papers", "topics.all", "n", "data.xs"],
        "sequence": {"n": {"end": 3}},
        "filter": {"papers.year": ">2021", "p.k": "=1", "authors.name": "~x"},
    }
    mapping = {"p": "papers", "x": "data.xs"}
    assert sources(config("custom", array_mapping=mapping, transform_rules=rules)) == {
        "p": "papers",
        "x": "data.xs",
        "topics.all": "topics.all",
        "authors": "authors",
    }


def test_lookup_follows_the_longest_key_first() -> None:
    context = {"a.b": {"c": 1}, "a": {"b": {"c": 2}, "d": [{"e": 3}]}, "x": None}
    assert lookup_path(context, "a.b.c") == 1
    assert lookup_path(context, "a.d.0.e") == 3
    assert lookup_path(context, "x") is None
    with pytest.raises(KeyError):
        lookup_path(context, "a.q")


@pytest.mark.parametrize("value", [[1, 2], "[1, 2]", " \n[1,2] "])
def test_a_list_or_its_json_text_is_a_list(value: Any) -> None:
    assert as_list(value, "x") == [1, 2]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("[1, 2", "a string"),
        ("hello", "a string"),
        ('{"a": 1}', "a string"),
        ({"a": [1]}, "an object"),
        (None, "null"),
        (5, "a number"),
        (True, "a boolean"),
    ],
)
def test_anything_else_is_refused_with_what_it_is(value: Any, found: str) -> None:
    with pytest.raises(ExpansionError, match=f"the array for 'docs' is {found}, not a list"):
        as_list(value, "docs")
