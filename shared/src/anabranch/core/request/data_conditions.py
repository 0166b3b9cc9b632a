"""Conditions in their data form, as far as the plan needs them, until `core.conditions` is there. Pure."""

from __future__ import annotations

from typing import Any, TypeAlias

Condition: TypeAlias = Any


class InvalidCondition(Exception):
    """A condition has a wrong shape."""


def normalized(condition: object) -> Any:
    """The data form; only that is accepted."""
    if not isinstance(condition, (dict, bool)):
        raise InvalidCondition("is not in the data form")
    return condition


def fields_of(condition: Any) -> tuple[str, ...]:
    """The paths that a condition reads."""
    found: dict[str, None] = {}
    waiting = [condition]
    while waiting:
        at = waiting.pop()
        if isinstance(at, list):
            waiting += at[::-1]
        elif isinstance(at, dict) and "field" in at:
            found |= {str(at[name]): None for name in ("field", "value_field") if name in at}
        elif isinstance(at, dict):
            waiting += list(at.values())
    return tuple(found)


def exclusive(a: Any, b: Any) -> bool:
    """Not known yet."""
    return False
