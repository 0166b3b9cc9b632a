"""Generates JSON Schema (draft 2020-12) from models, with the docstrings of classes and fields as descriptions.

Schemas of documents that users send describe what is accepted. Schemas of documents that users receive also
require the fields that are always present. Models define the schema of single fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from anabranch.core.wire.codec import WIRE_VERSION
from anabranch.core.wire.messages import Message
from contract.docstrings import attribute_notes, markdown

Schema = dict[str, Any]

_SENT_BY_US: JsonSchemaMode = "serialization"


class _Generator(GenerateJsonSchema):
    """Pydantic's generator with attribute docstrings and without titles of fields."""

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        # Pydantic uses a generator for one document only, so the models of others are not mixed in.
        self._models: dict[str, type[BaseModel]] = {}
        document = super().generate(schema, mode)
        for part in (document, *document.get("$defs", {}).values()):
            self._describe(part)
        return document

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        self._models[schema["cls"].__name__] = schema["cls"]
        return super().model_schema(schema)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        """In documents that services send, a field is always present, unless its default is null."""
        if self.mode != _SENT_BY_US:
            return super().field_is_required(field, total)
        # Pydantic wraps the schema of a field with a default value.
        inner = field["schema"]
        return inner["type"] != "default" or inner.get("default", ...) is not None

    def _describe(self, part: Schema) -> None:
        if "description" in part:
            part["description"] = markdown(part["description"])
        model = self._models.get(part.get("title", ""))
        if model is None:
            return
        notes = _notes_by_alias(model)
        for name, field in part.get("properties", {}).items():
            field.pop("title", None)
            if name in notes:
                field["description"] = " ".join(filter(None, (notes[name], field.get("description"))))


def _notes_by_alias(model: type[BaseModel]) -> dict[str, str]:
    fields = model.model_fields
    notes = attribute_notes(model)
    return {fields[name].alias or name: text for name, text in notes.items() if name in fields}


def accepted(model: type[BaseModel]) -> Schema:
    """The schema of documents that users send."""
    return _rendered(model, "validation")


def promised(model: type[BaseModel]) -> Schema:
    """The schema of documents that users receive. They may rely on required fields, and must ignore unknown
    ones."""
    return _rendered(model, _SENT_BY_US)


def stored(model: type[BaseModel], kind: str) -> Schema:
    """The schema of a record that omits fields with default values, except `type`."""
    schema = _rendered(model, "validation")
    schema["required"] = ["type", *(name for name in schema.get("required", ()) if name != "type")]
    schema["properties"]["type"] = {"const": kind, "type": "string"}
    return schema


def inner(model: type[Message]) -> Schema:
    """The schema of an inner message's header: the first line of the record."""
    schema = stored(model, wire_type(model))
    schema["required"] = ["v", *schema["required"]]
    schema["properties"] = {
        "v": {"const": WIRE_VERSION, "type": "integer", "description": "The version of the wire format."},
        **schema["properties"],
        "segments": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0},
            "description": "Bytes of each segment of the payload after the header's line; absent without one.",
        },
    }
    return schema


def wire_type(model: type[Message]) -> str:
    """The value of `type` in an inner message."""
    kind: str = model.model_fields["type"].default
    return kind


def union_members(union: Any) -> tuple[type[Message], ...]:
    """The message classes of a discriminated union such as `OnRuns`."""
    members: tuple[type[Message], ...] = get_args(get_args(union)[0])
    return members


def _rendered(model: type[BaseModel], mode: Literal["validation", "serialization"]) -> Schema:
    return headed(model.model_json_schema(schema_generator=_Generator, mode=mode))


def headed(schema: Mapping[str, Any]) -> Schema:
    """The schema with its dialect, title and description first and its definitions last."""
    top = ("$schema", "title", "description", "type")
    dialect = {"$schema": GenerateJsonSchema.schema_dialect}
    merged = {**schema, **dialect}
    first = {name: merged[name] for name in top if name in merged}
    rest = {name: value for name, value in merged.items() if name not in (*top, "$defs")}
    last = {"$defs": merged["$defs"]} if "$defs" in merged else {}
    return first | rest | last
