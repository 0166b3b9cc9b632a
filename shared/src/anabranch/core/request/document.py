"""The base of the request's models: frozen, no unknown fields, null means absent, one canonical JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Document(BaseModel):
    """Base of the request's models: frozen, no unknown fields, null means absent, one canonical JSON form."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        # Fields with the name of a Python keyword, such as `while_`, have the keyword as alias.
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    def to_document(self) -> dict[str, Any]:
        """The canonical JSON document: one spelling of each value, without fields that have their default."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or None not in data.values():
            return data
        # Null in a required or unknown field stays, so that the field is reported under its own name.
        return {key: value for key, value in data.items() if value is not None or not cls._may_omit(key)}

    @classmethod
    def _may_omit(cls, name: object) -> bool:
        field = cls.model_fields.get(str(name)) or _by_alias(cls).get(str(name))
        return field is not None and not field.is_required()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        target = handler.resolve_ref_schema(schema)
        for name, field in target.get("properties", {}).items():
            if cls._may_omit(name):
                target["properties"][name] = _nullable(field)
        return schema


def _by_alias(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias: field for field in model.model_fields.values() if field.alias}


def _nullable(field: dict[str, Any]) -> dict[str, Any]:
    if {"type": "null"} in field.get("anyOf", []):
        return field
    outer = {name: field[name] for name in ("title", "default") if name in field}
    inner = {name: value for name, value in field.items() if name not in outer}
    return outer | {"anyOf": [inner, {"type": "null"}]}
