"""`Condition`: the type of a model's field that holds a condition, which is validated to its data form.

In JSON Schema it is a text, a boolean, or the recursive form as an object.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    RootModel,
    ValidationError,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from anabranch.core.conditions.checks import MAX_FIELD, MAX_TEXT, InvalidCondition
from anabranch.core.conditions.form import normalized
from anabranch.core.conditions.operators import Data, Operator
from anabranch.core.errors import Code

# --- JSON Schema ----------------------------------------------------------------------------------
# These models are never validated with: they describe what `normalized` accepts, and give the recursion its names.

_Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT, description="a condition in its text form")]
_Path = Annotated[str, Field(min_length=1, max_length=MAX_FIELD, description="a path, as in a placeholder")]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ConditionTerm(_Shape):
    """Compares the value at a path with a literal, or with the value at another path."""

    field: _Path
    operator: Operator
    value: Any = None
    value_field: _Path = ""


class ConditionAll(_Shape):
    """True if each of its conditions is true."""

    all: list[ConditionForm] = Field(min_length=1)


class ConditionAny(_Shape):
    """True if at least one of its conditions is true."""

    any: list[ConditionForm] = Field(min_length=1)


class ConditionNot(_Shape):
    """True if its condition is false."""

    not_: ConditionForm = Field(alias="not")


class ConditionForm(RootModel[_Text | bool | ConditionTerm | ConditionAll | ConditionAny | ConditionNot]):
    """A condition: a text such as "tests.passed == true && score >= 0.8", or the same as data."""


for _model in (ConditionAll, ConditionAny, ConditionNot):
    _model.model_rebuild()


class _WithSchema:
    """Replaces the JSON Schema of a field by that of `ConditionForm`."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(ConditionForm.__pydantic_core_schema__)


# --- validation -----------------------------------------------------------------------------------


def _check_condition(value: object) -> Data:
    try:
        return normalized(value)
    except InvalidCondition as error:
        problem = PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": str(error)})
        details: InitErrorDetails = {"type": problem, "loc": error.path, "input": value}
        # Unlike the error alone, this one has a location within the value.
        raise ValidationError.from_exception_data("Condition", [details]) from error


Condition = Annotated[Any, BeforeValidator(_check_condition), _WithSchema()]
"""A condition as text or data. The field's value is its data form."""
