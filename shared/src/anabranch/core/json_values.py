"""Converts a Python value, such as an agent's result, to JSON, or reports which part has no JSON form and its
path.

orjson encodes almost every value. The rest is converted here: subclasses of text, numbers, dates and UUIDs become
their base type, models and mappings become objects. A value is untrusted code: its properties may raise and its
iterators may be infinite, so reads are bounded and every error has the path. Pure.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from itertools import islice
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import BaseModel

from anabranch.core.error_records import text_of, type_name
from anabranch.core.json_documents import LEAST_DEEP_BYTES, fitted, is_deep_json
from anabranch.core.yaml_documents import MAX_DEPTH

DEEPEST: Final = MAX_DEPTH
"""Nesting limit, also of requests. Records wrap a value in a few more levels; orjson writes at most 254."""
MAX_KEYS: Final = 1_000_000
"""Maximum keys read from a mapping that is not a dict: its iterator may be infinite."""
MAX_STEPS: Final = 20
"""Maximum conversion steps of a value, such as enum -> pydantic model -> dict."""
_LARGEST: Final = 2**64 - 1
_SMALLEST: Final = -(2**63)
_SHOWN: Final = 60
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""Options that avoid crashes: orjson 3.13.0 kills the process on an unset dataclass slot or a timezone that
raises."""


class NotJson(Exception):
    """A value has no JSON form. `reason` says why, `fix` what to return instead; `steps` are its path, innermost
    first."""

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason, fix)
        self.reason = reason
        self.fix = fix
        self.steps: list[str] = []

    @property
    def path(self) -> str:
        """JSON Pointer to the value without a JSON form."""
        return "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in reversed(self.steps))

    def __str__(self) -> str:
        path = self.path
        shown = path if len(path) <= 4 * _SHOWN else f"{path[: 4 * _SHOWN]}..."
        where = f"at {shown}" if path else "at the top"
        return f"{self.reason} {where}{self.fix and ': ' + self.fix}"


def encode(value: Any) -> bytes:
    """The UTF-8 JSON of a value.

    Raises:
        NotJson: a part of it has no JSON form. No other `Exception` is raised.
    """
    try:
        encoded = orjson.dumps(value, _step, _OPTIONS)
    except Exception:  # noqa: BLE001  # a property of the value may raise anything; the walk below finds the path
        return fitted(orjson.dumps(as_json(value)))
    # A str cannot contain NaN, even if its text has "null".
    if b"null" in encoded and type(value) is not str:  # orjson writes NaN as null
        as_json(value)
    if len(encoded) > LEAST_DEEP_BYTES and is_deep_json(encoded):
        raise NotJson(f"nested deeper than {DEEPEST} levels", "return it flatter, or as a text of JSON")
    return bytes(memoryview(encoded))  # as `fitted` does, without its call


def as_json(value: Any, depth: int = 0) -> Any:
    """The value in terms of None, bool, int, float, str, list and dict.

    Raises:
        NotJson: a part of it has no JSON form.
    """
    if depth > DEEPEST:
        raise NotJson(f"nested deeper than {DEEPEST} levels")
    for _ in range(MAX_STEPS):
        convert = _NATIVE.get(type(value))
        if convert is not None:
            return convert(value, depth)
        value = _step_with_care(value)
    raise NotJson(f"a value of type {_kind(value)} whose conversion to JSON does not end")


def fields_of(value: Any) -> Mapping[str, Any] | None:
    """The fields of a mapping, a dataclass or a pydantic model; None for anything else.

    Raises:
        NotJson: they cannot be read.
    """
    try:
        return _fields(value)
    except NotJson:
        raise
    except Exception as error:
        raise _unreadable(value, error) from error


# --- what JSON has --------------------------------------------------------------------------------


def _itself(value: Any, _: int) -> Any:
    return value


def _text(value: str, _: int) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise NotJson("text with a lone surrogate") from None
    return value


def _integer(value: int, _: int) -> int:
    if not _SMALLEST <= value <= _LARGEST:
        raise NotJson("an integer of more than 64 bits", "return it as text")
    return value


def _float(value: float, _: int) -> float:
    if not math.isfinite(value):
        raise NotJson(str(value), "JSON has no such number, return None instead")
    return value


def _list(value: Any, depth: int) -> list[Any]:
    items: list[Any] = []
    try:
        for item in value:
            items.append(as_json(item, depth + 1))  # its length is the index where one is refused
    except NotJson as refused:
        refused.steps.append(str(len(items)))
        raise
    return items


def _dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, item in value.items():
        name = _key(key)
        if name in fields:
            raise NotJson(f"the key {_shown(name)} twice")
        try:
            fields[name] = as_json(item, depth + 1)
        except NotJson as refused:
            refused.steps.append(name)
            raise
    return fields


def _key(key: Any) -> str:
    if not _is_a(key, str):
        raise NotJson(f"a key of type {_kind(key)} ({_shown(key)})", "keys are text, use str(key)")
    return _text(str.__str__(key), 0)


_NATIVE: Final[dict[type, Callable[[Any, int], Any]]] = {
    type(None): _itself,
    bool: _itself,
    str: _text,
    int: _integer,
    float: _float,
    list: _list,
    tuple: _list,
    dict: _dict,
}


# --- conversions ----------------------------------------------------------------------------------


def _step_with_care(value: Any) -> Any:
    try:
        return _step(value)
    except NotJson:
        raise
    except Exception as error:
        raise _unreadable(value, error) from error


def _step(value: Any) -> Any:
    """Convert a value one step towards JSON. Subclasses are converted by the methods of their base class, because
    a subclass may override them."""
    kind = type(value)
    exact = _EXACT.get(kind)
    if exact is not None:
        return exact(value)
    # Fast path: such a dataclass is no subclass of any type below.
    if dataclasses.is_dataclass(kind) and kind.__base__ is object:
        return _fields(value)
    if issubclass(kind, Enum):
        return value.value
    for base, convert in _SUBCLASSES:
        if issubclass(kind, base):
            return convert(value)
    if issubclass(kind, BaseModel):
        return BaseModel.model_dump(value, mode="json")
    fields = _fields(value)
    if fields is not None:
        return fields
    if _is_numpy(kind):
        return _numpy(value)
    raise NotJson(f"value of type {_kind(value)}", _fix(value))


def _moment(value: date | time) -> str:
    if not value == value:  # pandas' NaT is a datetime that is not equal to itself
        raise NotJson(f"{_kind(value)}", "there is no such time, return None instead")
    return str.__str__(value.isoformat())


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise NotJson(str(value), "JSON has no such number, return None instead")
    return Decimal.__str__(value)


_SUBCLASSES: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (datetime, _moment),
    (date, _moment),
    (time, _moment),
    (UUID, UUID.__str__),
    (Decimal, _decimal),
    (PurePath, PurePath.__str__),
    (list, lambda value: list(list.__iter__(value))),
    (tuple, lambda value: list(tuple.__iter__(value))),
    (dict, lambda value: dict(dict.items(value))),
)
_EXACT: Final = dict(_SUBCLASSES)
"""The converter of a type. Frequent types take a fast path."""


def _fields(value: Any) -> dict[Any, Any] | None:
    kind = type(value)
    if issubclass(kind, dict):
        return dict(dict.items(value))
    if issubclass(kind, BaseModel):
        # The dump of a RootModel is its root, which need not be an object.
        dumped = BaseModel.model_dump(value, mode="json")
        return dumped if isinstance(dumped, dict) else None
    if issubclass(kind, Mapping):
        return _bounded(value)
    if dataclasses.is_dataclass(kind):
        return {name: getattr(value, name) for name in _names_of_fields(kind)}
    return None


@lru_cache
def _names_of_fields(kind: Any) -> tuple[str, ...]:
    """The public fields, as orjson would write them: without names that begin with an underscore."""
    return tuple(each.name for each in dataclasses.fields(kind) if each.name[0] != "_")


def _bounded(value: Mapping[Any, Any]) -> dict[Any, Any]:
    keys = list(islice(iter(value), MAX_KEYS + 1))
    if len(keys) > MAX_KEYS:
        raise NotJson(f"a mapping of more than {MAX_KEYS:,} keys")
    return {key: value[key] for key in keys}


def _is_numpy(kind: type) -> bool:
    return hasattr(kind, "tolist") and hasattr(kind, "dtype")


def _numpy(value: Any) -> Any:
    """Convert a numpy array or scalar, with times as ISO 8601: `tolist` would return nanoseconds as integers."""
    kind = getattr(value.dtype, "kind", "")
    if kind == "m":
        raise NotJson("a duration of numpy", "return its seconds")
    return value.astype(str).tolist() if kind == "M" else value.tolist()


def _unreadable(value: Any, error: Exception) -> NotJson:
    return NotJson(f"a value of type {_kind(value)} that cannot be read ({type_name(error)}: {text_of(error)})")


# --- messages -------------------------------------------------------------------------------------

_FIXES: Final[tuple[tuple[Any, str], ...]] = (
    ((bytes, bytearray, memoryview), "decode it to text, or encode it with base64"),
    ((set, frozenset), "return a list, such as sorted(...)"),
    (timedelta, "return its total_seconds()"),
    (Awaitable, "await it"),
    (Iterator, "collect it in a list"),
    (type, "return an instance"),
    (BaseException, "raise it, or return its text"),
    (Iterable, "return a list of it"),
)


def _fix(value: Any) -> str:
    for kinds, fix in _FIXES:
        if issubclass(type(value), kinds):
            return fix
    return "return text, numbers, lists and objects"


def _is_a(value: Any, kind: type) -> bool:
    """`isinstance` by the real class, ignoring an overridden `__class__`."""
    return issubclass(type(value), kind)


def _kind(value: Any) -> str:
    return str(type(value).__name__)[:_SHOWN]


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001  # `__repr__` is untrusted code
        return f"its __repr__ raised {type_name(error)}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
