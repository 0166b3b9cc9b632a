"""Validates the return value of an agent: it has all result keys, and is JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import orjson

from anabranch.core.errors import ResultError
from anabranch.core.json_values import NotJson, encode, fields_of

_SHOWN_KEYS = 20


def values_of(returned: Any, result_keys: Sequence[str], optional_result_keys: Sequence[str] = ()) -> list[Any]:
    """The value of each result key, in the order of the keys.

    With one key, the value is the whole return value. With several, the return value must be an object (a mapping,
    a dataclass or a pydantic model) with every required key; a missing optional key has the value None.

    Raises:
        ResultError: the return value is not an object, or lacks required keys; `missing` has their names.
    """
    if len(result_keys) == 1:
        return [returned]
    if not result_keys:  # a compensation, whose result nobody reads
        return []
    try:
        fields = fields_of(returned)
    except NotJson as refused:
        raise ResultError(f"the agent's result is not JSON: {refused}") from refused
    if fields is None:
        raise ResultError(
            f"the agent returned {_kind(returned)}, but the task has {len(result_keys)} result keys: "
            f"return an object with {_listed(result_keys)}",
            [key for key in result_keys if key not in optional_result_keys],
        )
    missing = [key for key in result_keys if key not in fields and key not in optional_result_keys]
    if missing:
        raise ResultError(
            f"the agent's result lacks {_listed(missing)}; it has {_listed(_names(fields))}",
            missing,
        )
    return [fields.get(key) for key in result_keys]


def encode_value(value: Any, result_key: str | None = None) -> bytes:
    """The UTF-8 JSON of a value. Subclasses of text, numbers, dates (ISO 8601) and UUIDs are encoded as their base
    type. Dataclasses, pydantic models, mappings, named and plain tuples, enums, paths, decimals (as exact text)
    and numpy arrays have a JSON form too.

    Raises:
        ResultError: a part of the value has no JSON form; the message has the part, its result key and its path.
            NaN, infinities and keys that are not text are refused: a replacement would silently change the value.
    """
    try:
        return encode(value)
    except NotJson as refused:
        whose = "" if result_key is None else f"result key {result_key!r}: "
        raise ResultError(f"the agent's result is not JSON: {whose}{refused}") from refused


def items_of(value: Any, encoded: bytes) -> int:
    """Number of items that a value adds to a merged list: the length of its JSON array, else one."""
    if isinstance(value, list):
        return len(value)
    return len(orjson.loads(encoded)) if encoded.startswith(b"[") else 1


def _names(fields: Any) -> list[str]:
    return sorted(str.__str__(key) for key in islice(fields, _SHOWN_KEYS) if issubclass(type(key), str))


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(repr(key) for key in keys) or "no keys"


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"
