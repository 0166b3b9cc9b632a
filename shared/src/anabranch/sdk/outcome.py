"""Judges what an agent returned: are all result keys there, and is it JSON?

Pure. Publishes nothing and knows no retry policy: a `ResultError` is the worker's to handle.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel

from anabranch.core.documents import fitted
from anabranch.core.errors import ResultError

Json = Any

_DEEPEST = 250
"""orjson refuses nesting beyond 254."""
_LARGEST = 2**64 - 1
_SMALLEST = -(2**63)
_NATIVE = ("datetime", "date", "time", "UUID")


def values_of(returned: Any, result_keys: Sequence[str], optional_result_keys: Sequence[str] = ()) -> list[Any]:
    """The value of each result key, in their order.

    With one key it is what was returned, as it is. With several, what was returned is an object (a mapping, a
    dataclass or a pydantic model) that has each required key; a missing optional one gives None.

    Raises:
        ResultError: it is no object, or required keys are missing; `missing` names them.
    """
    if len(result_keys) == 1:
        return [returned]
    fields = _fields(returned)
    if fields is None:
        raise ResultError(
            f"the agent returned {_kind(returned)}, but the task has {len(result_keys)} result keys: "
            f"return an object with {_listed(result_keys)}",
            [key for key in result_keys if key not in optional_result_keys],
        )
    missing = [key for key in result_keys if key not in fields and key not in optional_result_keys]
    if missing:
        raise ResultError(
            f"the agent's result lacks {_listed(missing)}; it has {_listed(sorted(map(str, fields)))}",
            missing,
        )
    return [fields.get(key) for key in result_keys]


def encode_value(value: Any) -> bytes:
    """The UTF-8 JSON of a value. Dataclasses, pydantic models, named and plain tuples, enums, datetimes (ISO
    8601), UUIDs and arrays of numpy are taken as what they stand for.

    Raises:
        ResultError: something in it is no JSON; the message says what and where. NaN, infinities and keys that
            are no text are refused: JSON has none, and guessing would change the value in silence.
    """
    try:
        encoded = fitted(orjson.dumps(value, default=_plain))
    except (TypeError, RecursionError) as error:
        raise ResultError(_culprit(value) or f"the agent's result is no JSON: {error}") from error
    # A text cannot hold one, however often it says so.
    if b"null" in encoded and type(value) is not str and (culprit := _culprit(value)):  # orjson writes NaN as null
        raise ResultError(culprit)
    return encoded


def _fields(returned: Any) -> Mapping[str, Any] | None:
    if isinstance(returned, Mapping):
        return returned
    if isinstance(returned, BaseModel):
        dumped: dict[str, Any] = returned.model_dump(mode="json")
        return dumped
    if dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        return {field.name: getattr(returned, field.name) for field in dataclasses.fields(returned)}
    return None


def _plain(value: Any) -> Any:
    """What orjson does not know, as what it knows."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist") and hasattr(value, "dtype"):  # an array or a scalar of numpy
        return value.tolist()
    if isinstance(value, tuple):  # a named one
        return list(value)
    raise TypeError(f"value of type {type(value).__name__}")


def _culprit(value: Any) -> str | None:
    """What makes a value no JSON and where; None where nothing does."""
    return next((f"the agent's result is no JSON: {reason}" for reason in _problems(value, "", 0)), None)


def _problems(value: Any, path: str, depth: int) -> Iterator[str]:
    where = f"at {path}" if path else "at the top"
    if value is None or isinstance(value, bool) or type(value).__name__ in _NATIVE:
        return
    if depth > _DEEPEST:
        yield f"nested deeper than {_DEEPEST} levels at {path[:60]}..."
    elif isinstance(value, str):
        yield from _text_problems(value, where)
    elif isinstance(value, (int, float)):
        yield from _number_problems(value, where)
    elif isinstance(value, Mapping):
        yield from _mapping_problems(value, path, where, depth)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _problems(item, f"{path}/{index}", depth + 1)
    else:
        yield from _object_problems(value, path, where, depth)


def _text_problems(value: str, where: str) -> Iterator[str]:
    try:
        value.encode()
    except UnicodeEncodeError:
        yield f"text with a lone surrogate {where}"


def _number_problems(value: float, where: str) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{value} {where}: JSON has no such number, return None instead"
    elif isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
        yield f"an integer of more than 64 bits {where}: return it as text"


def _mapping_problems(value: Mapping[Any, Any], path: str, where: str, depth: int) -> Iterator[str]:
    for key, item in value.items():
        if not isinstance(key, str):
            yield f"a key of type {type(key).__name__} ({key!r}) {where}: keys are text, use str(key)"
        else:
            yield from _text_problems(key, where)
            yield from _problems(item, f"{path}/{_escaped(key)}", depth + 1)


def _object_problems(value: Any, path: str, where: str, depth: int) -> Iterator[str]:
    fields = _fields(value)
    if fields is not None:
        yield from _problems(dict(fields), path, depth)
    elif hasattr(value, "tolist") and hasattr(value, "dtype"):
        yield from _problems(value.tolist(), path, depth)
    elif not _encodes(value):
        yield f"value of type {type(value).__name__} {where}"


def _encodes(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(repr(key) for key in keys) or "no keys"


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"
