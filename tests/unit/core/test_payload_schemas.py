"""JSON Schemas of payloads: what fits, what is refused, and that no schema takes an owner long."""

from __future__ import annotations

from typing import Any

import pytest
from counted_work import calls_of
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema.validators import Draft202012Validator

from anabranch.core.request.admission import read_request
from anabranch.core.waits.payload_schemas import payload_problems, schema_problem

PATTERNED: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "s": {"type": "string", "pattern": "^[ab]+$"}},
    "patternProperties": {"^x": {"type": "string"}, "y$": {"minimum": 3}},
    "additionalProperties": {"type": "array", "uniqueItems": True, "items": {"$ref": "#/$defs/item"}},
    "$defs": {"item": {"enum": [1, True, "a", None, [1], {"k": 1}]}},
}
ITEMS = st.one_of(st.sampled_from([1, 1.0, True, "a", None, [1], [1.0], {"k": 1}, {"k": 1.0}, 2]))
VALUES = st.one_of(ITEMS, st.text("abc", max_size=3), st.lists(ITEMS, max_size=3))


@given(st.dictionaries(st.sampled_from(["a", "s", "x1", "xy", "y", "other"]), VALUES, max_size=4))
@settings(max_examples=300, deadline=None)
def test_the_answer_is_that_of_the_library(payload: Any) -> None:
    assert (payload_problems(PATTERNED, payload) == []) is Draft202012Validator(PATTERNED).is_valid(payload)


def doubled(levels: int) -> dict[str, Any]:
    """A schema whose evaluation takes two to the power of its levels."""
    found = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": found | {f"d{levels}": {"type": "integer"}}}


def nested(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = {"a": found}
    return found


HEAVY: list[tuple[dict[str, Any], Any]] = [
    (doubled(30), 1),
    ({"pattern": "^(a+)+$"}, "a" * 50_000 + "!"),
    ({"patternProperties": {"^(a|aa)+$": {}}}, {"a" * 5_000 + "!": 1}),
    ({"uniqueItems": True}, [{"n": n} for n in range(50_000)]),
    ({"items": {"enum": list(range(5_000))}}, [-1] * 50_000),
    ({"$ref": "#"}, 1),
    ({"properties": {"a": {"$ref": "#"}}}, nested(900)),
    ({"properties": {f"k{n}": {} for n in range(5_000)}, "items": {"$ref": "#"}}, [[[{}]] * 1_000] * 100),
]

MOST_CALLS = 25_000_000
"""Calls until an evaluation gives up, which is after a fixed number of steps: 16 million for the first schema."""


@pytest.mark.parametrize("number", range(len(HEAVY)))
def test_no_schema_takes_long(number: int) -> None:
    schema, payload = HEAVY[number]
    answers: list[Any] = []
    calls_of(lambda: answers.append(payload_problems(schema, payload)), MOST_CALLS)

    def deeper(levels: int) -> Any:
        return payload_problems(schema, payload) if levels == 0 else deeper(levels - 1)

    assert answers == [deeper(200)], "the answer does not depend on who asks"


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "nothing"}, "nothing"),
        ({"properties": {"a": {"pattern": "("}}}, "regex"),
        ({"pattern": "(?=a)b"}, "lookaround"),
        ({"patternProperties": {r"(a)\1": {}}}, "reference"),
        ({"allOf": [{"unevaluatedProperties": False}]}, "additionalProperties"),
    ],
)
def test_a_schema_that_no_payload_can_be_checked_with_is_refused_at_admission(
    schema: dict[str, Any], says: str
) -> None:
    assert says in str(schema_problem(schema))
    for name, wait in {
        "schema": {"signal": "s", "schema": schema},
        "form": {"approval": {"form": schema}},
    }.items():
        task = {"name": "w", "wait": wait}
        result = read_request({"task_groups": [{"name": "g", "tasks": [task]}]})
        [problem] = result.errors
        assert problem.path.endswith(f"/{name}")
        assert says in problem.message


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    schema = {"properties": {"pattern": {"type": "string"}, "unevaluatedItems": {"const": {"pattern": "("}}}}
    assert schema_problem(schema) is None
