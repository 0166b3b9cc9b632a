"""Validators of JSON Schema whose work is bounded, and the same in each process. Pure.

The library evaluates each keyword without a limit: nested references take exponential time, `uniqueItems`
compares each item with each other one, and regular expressions are those of `re`. An owner validates while it
decides about a record, so a request that stalls it stalls every run of the partition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import orjson
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from anabranch.core.waits.patterns import PatternRefused, pattern_of

MAX_WORK = 500_000
"""Keywords that are evaluated for one payload, with the sizes of what they go through: a few seconds."""
MAX_DEPTH = 80
"""Keywords within each other. Python's own limit would count the calls around the validation as well."""

Keyword = Callable[[Any, Any, Any, Mapping[str, Any]], Any]


class TooMuchWork(Exception):
    """A payload takes more work than `MAX_WORK`, or goes deeper than `MAX_DEPTH`."""


class _Work:
    def __init__(self) -> None:
        self.left = MAX_WORK
        self.depth = 0


_WORK: ContextVar[_Work] = ContextVar("work of a validation")


@contextmanager
def bounded_work() -> Iterator[None]:
    """The work of one payload; validators of `bounded` raise TooMuchWork within it."""
    token = _WORK.set(_Work())
    try:
        yield
    finally:
        _WORK.reset(token)


@lru_cache
def bounded(kind: type[Validator]) -> type[Validator]:
    """The validator of a draft with bounded work."""
    found: type[Validator] = extend(  # type: ignore[no-untyped-call]
        kind, {name: _counted(_OWN.get(name, keyword)) for name, keyword in kind.VALIDATORS.items()}
    )
    return found


def schema_refusal(schema: Any) -> str | None:
    """Why a schema cannot be used with bounded work; None if it can."""
    if isinstance(schema, list):
        return next(filter(None, map(schema_refusal, schema)), None)
    if not isinstance(schema, dict):
        return None
    for name, value in schema.items():
        if name in _UNSUPPORTED:
            return f"`{name}` is not supported: use {_UNSUPPORTED[name]}"
        sources = [value] if name == "pattern" else list(value) if name == "patternProperties" and value else []
        for source in sources:
            try:
                pattern_of(str(source))
            except PatternRefused as refused:
                return str(refused)
        if name in _MAPS and isinstance(value, dict):
            problem = next(filter(None, map(schema_refusal, value.values())), None)
        else:
            problem = None if name in _DATA else schema_refusal(value)
        if problem is not None:
            return problem
    return None


_UNSUPPORTED = {"unevaluatedProperties": "additionalProperties", "unevaluatedItems": "items or additionalItems"}
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords whose value has schemas by name."""
_DATA = ("const", "enum", "default", "examples", "required", "dependentRequired")
"""Keywords whose value has no schemas."""


def _counted(keyword: Keyword) -> Keyword:
    def evaluate(
        validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]
    ) -> Iterator[ValidationError]:
        work = _WORK.get()
        work.left -= 1 + _size(value) + _size(instance)
        if work.left < 0:
            raise TooMuchWork("it takes too much work for this payload: make the schema or the payload smaller")
        if work.depth >= MAX_DEPTH:
            raise TooMuchWork(f"the schema or the payload is nested more than {MAX_DEPTH} levels deep")
        work.depth += 1
        try:
            yield from keyword(validator, value, instance, schema) or ()
        finally:
            work.depth -= 1

    return evaluate


def _size(value: Any) -> int:
    return len(value) if isinstance(value, dict | list) else 0


# --- keywords of its own -------------------------------------------------------------------------


def _pattern(validator: Any, value: str, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not pattern_of(value).search(instance):
        yield ValidationError(f"{instance!r} does not match {value!r}")


def _pattern_properties(
    validator: Any, value: Mapping[str, Any], instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for source, inner in value.items():
            pattern = pattern_of(source)
            for name, each in instance.items():
                if pattern.search(name):
                    yield from validator.descend(each, inner, path=name, schema_path=source)


def _additional_properties(
    validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    named, patterns = schema.get("properties", {}), [*map(pattern_of, schema.get("patternProperties", {}))]
    extras = [each for each in instance if each not in named and not any(p.search(each) for p in patterns)]
    if isinstance(value, dict):
        for each in extras:
            yield from validator.descend(instance[each], value, path=each)
    elif value is False and extras:
        yield ValidationError(f"Additional properties are not allowed ({', '.join(map(repr, extras))})")


def _unique_items(
    validator: Any, value: bool, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if value and isinstance(instance, list):
        texts = {orjson.dumps(_alike(each), option=orjson.OPT_SORT_KEYS) for each in instance}
        if len(texts) < len(instance):
            yield ValidationError(f"{instance!r} has non-unique elements")


def _alike(value: Any) -> Any:
    """A value in which numbers that are equal are written alike."""
    if isinstance(value, float) and abs(value) < 2**53 and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_alike(each) for each in value]
    return {name: _alike(each) for name, each in value.items()} if isinstance(value, dict) else value


_OWN: Mapping[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
