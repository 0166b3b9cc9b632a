"""Judges what an agent returned: are all result keys there, and is it JSON?

Pure. Publishes nothing and knows no retry policy: a `ResultError` is the worker's to handle.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import orjson

from anabranch.core.errors import ResultError
from anabranch.core.json_values import NotJson, encode, fields_of

_SHOWN_KEYS = 20


def values_of(returned: Any, result_keys: Sequence[str], optional_result_keys: Sequence[str] = ()) -> list[Any]:
    """The value of each result key, in their order.

    With one key it is what was returned, as it is. With several, what was returned is an object (a mapping, a
    dataclass or a pydantic model) that has each required key; a missing optional one gives None.

    Raises:
        ResultError: it is no object, or required keys are missing; `missing` names them.
    """
    if len(result_keys) == 1:
        return [returned]
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
        ResultError: a part of it has no JSON form; the message has the part, its result key and its path. NaN,
            infinities and keys that are not text are refused: a replacement would silently change the value.
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
