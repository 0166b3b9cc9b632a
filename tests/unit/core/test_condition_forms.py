"""The data form of conditions: what is accepted, how mistakes are reported, and the type of a model's field."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from anabranch.core.conditions import Condition, InvalidCondition, normalized
from anabranch.core.conditions.checks import MAX_DEPTH, MAX_TERMS, MAX_VALUES
from anabranch.core.conditions.field_type import Operator
from anabranch.core.conditions.operators import OPERATORS

TERM = {"field": "a", "operator": "equals", "value": 1}


class Model(BaseModel):
    when: Condition | None = None


def nested(levels: int) -> Any:
    condition: Any = TERM
    for _ in range(levels - 1):
        condition = {"not": condition}
    return condition


def test_the_contracts_operators_are_accepted() -> None:
    values = {"in": [1], "not_in": [1], "is_type": "string", "starts_with": "x", "ends_with": "x"}
    for operator in OPERATORS:
        takes_none = operator in ("exists", "not_exists", "is_true")
        condition = {"field": "a", "operator": operator} | (
            {} if takes_none else {"value": values.get(operator, 1)}
        )

        assert normalized(condition) == condition
        assert list(normalized(dict(reversed(condition.items())))) == list(condition)


def test_texts_may_stand_within_data_and_groups_are_kept_as_sent() -> None:
    condition = {"all": [{"any": ["a == 1"]}, {"not": "exists(b)"}, True]}

    assert normalized(condition) == {"all": [{"any": [TERM]}, {"not": {"field": "b", "operator": "exists"}}, True]}
    assert normalized(normalized(condition)) == normalized(condition)


@pytest.mark.parametrize(
    ("condition", "path", "message"),
    [
        (None, (), "this is null"),
        (5, (), "this is a number"),
        ([TERM], (), "this is an array"),
        ({}, (), "one of `all`, `any`, `not` and `field` is missing"),
        ({"all": []}, ("all",), "`all` is empty"),
        ({"any": TERM}, ("any",), "this is an object"),
        ({"all": [TERM], "any": [TERM]}, (), "both `all` and `any`"),
        ({"not": TERM, "field": "a"}, (), "both `not` and `field`"),
        ({"all": [TERM, {"not": {"any": [None]}}]}, ("all", 1, "not", "any", 0), "this is null"),
        ({"all": [TERM, "a >"]}, ("all", 1), "column 4: expected a path or a literal"),
        ({"field": "a"}, (), "`operator` is missing"),
        ({"operator": "exists"}, (), "`field` is missing"),
        ({"field": "a", "op": "equals", "value": 1}, (), "unknown field `op`"),
        ({"field": "a", "operator": "==", "value": 1}, ("operator",), "write `equals`"),
        ({"field": "a", "operator": "greater_then", "value": 1}, ("operator",), "did you mean `greater_than`"),
        ({"field": "a", "operator": ["equals"], "value": 1}, ("operator",), "unknown operator"),
        ({"field": 1, "operator": "exists"}, ("field",), "this is a number"),
        ({"field": "{a}", "operator": "exists"}, ("field",), "without braces"),
        ({"field": " a", "operator": "exists"}, ("field",), "begins or ends with a space"),
        ({"field": "", "operator": "exists"}, ("field",), "is empty"),
        ({"field": "a" * 2_001, "operator": "exists"}, ("field",), "2,001 characters"),
        ({"field": "a", "operator": "exists", "value": True}, ("value",), "takes no `value`"),
        ({"field": "a", "operator": "equals"}, (), "`value` is missing"),
        (TERM | {"value_field": "b"}, (), "both `value` and `value_field`"),
        ({"field": "a", "operator": "equals", "value_field": ""}, ("value_field",), "is empty"),
        ({"field": "a", "operator": "is_type", "value_field": "b"}, ("value_field",), "the name of a type"),
        ({"field": "a", "operator": "is_type", "value": "str"}, ("value",), "one of string, number, integer"),
        ({"field": "a", "operator": "is_type", "value": ["string"]}, ("value",), "not the name of a type"),
        ({"field": "a", "operator": "in", "value": 1}, ("value",), r"write \[1\]"),
        ({"field": "a", "operator": "less_than", "value": True}, ("value",), "compares numbers or strings"),
        ({"field": "a", "operator": "ends_with", "value": 1}, ("value",), "needs a string"),
        ({"field": "a", "operator": "equals", "value": float("nan")}, ("value",), "is nan"),
        ({"field": "a", "operator": "equals", "value": {1: 2}}, ("value",), "not a string"),
        ({"field": "a", "operator": "equals", "value": [2**64]}, ("value",), "64 bits"),
        ({"field": "a", "operator": "equals", "value": "\ud800"}, ("value",), "surrogate"),
        ({"field": "a", "operator": "equals", "value": {"x": (1,)}}, ("value",), "is a tuple"),
    ],
)
def test_a_mistake_is_reported_with_its_path(condition: object, path: tuple[str | int, ...], message: str) -> None:
    with pytest.raises(InvalidCondition, match=message) as caught:
        normalized(condition)

    assert caught.value.path == path


def test_limits_hold_and_do_not_exhaust_the_stack() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]

    assert normalized(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(InvalidCondition, match="nested deeper than 32 levels"):
        normalized(nested(MAX_DEPTH + 1))
    with pytest.raises(InvalidCondition, match="literal is nested deeper than 32 levels"):
        normalized(TERM | {"value": deep})
    assert len(normalized({"any": [TERM] * MAX_TERMS})["any"]) == MAX_TERMS
    with pytest.raises(InvalidCondition, match="more than 1,000 comparisons"):
        normalized({"any": [{"any": [TERM] * MAX_TERMS}, "a"]})
    ids = {"field": "a", "operator": "in", "value": list(range(MAX_VALUES - 1))}
    assert normalized(ids) == ids
    with pytest.raises(InvalidCondition, match="more than 10,000 values"):
        normalized({"any": [ids, TERM]})
    while deep:  # freed level by level, because the interpreter would free it by recursion
        deep = deep.pop()


def test_a_field_of_a_model_holds_the_data_form() -> None:
    assert Model.model_validate({"when": "a == 1"}).when == TERM
    assert Model.model_validate({"when": {"all": ["a == 1"]}}).when == {"all": [TERM]}
    assert Model.model_validate({}).when is None
    nothing = {"field": "a", "operator": "equals", "value": None}
    assert Model(when="a == null").model_dump(mode="json", exclude_none=True) == {"when": nothing}


def test_a_field_of_a_model_reports_the_place_of_a_mistake() -> None:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"when": {"all": [TERM, TERM | {"operator": "=="}]}})

    (error,) = caught.value.errors()
    assert error["loc"] == ("when", "all", 1, "operator")
    assert error["type"] == "schema"
    assert error["msg"] == "unknown operator `==` (write `equals`)"


def test_the_json_schema_accepts_texts_and_the_recursive_form() -> None:
    schema = Model.model_json_schema()
    validator = Draft202012Validator(schema)

    assert get_args(Operator) == OPERATORS
    for accepted in ("a == 1", True, TERM, {"all": [TERM, {"not": {"any": ["b", TERM]}}]}, None):
        validator.validate({"when": accepted})
        Model.model_validate({"when": accepted})
    for refused in (5, [], {}, {"all": []}, {"not": [TERM]}, {"all": [{"field": "a"}]}, TERM | {"operator": "=="}):
        assert not validator.is_valid({"when": refused})
        with pytest.raises(ValidationError):
            Model.model_validate({"when": refused})
