"""The operators of conditions, over JSON values: equality, order, containment, types. Pure.

Equality is that of JSON: 1 equals 1.0, and ``true`` is not 1, also inside lists and objects. Values of different
types are not equal, and that is no error; any other operator raises `Mismatch` for values it is not made for.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

Data: TypeAlias = Any
"""A condition in its data form: an object of one of the shapes in the package's docstring, or a boolean."""

WITHOUT_VALUE: Final = frozenset({"exists", "not_exists", "is_true"})
OPPOSITE: Final[Mapping[str, str]] = {
    "equals": "not_equals",
    "greater_than": "less_or_equal",
    "greater_or_equal": "less_than",
    "contains": "not_contains",
    "in": "not_in",
    "exists": "not_exists",
}
"""Pairs of which, where both can be evaluated, exactly one is true."""
FLIPPED: Final[Mapping[str, str]] = {
    "equals": "equals",
    "not_equals": "not_equals",
    "greater_than": "less_than",
    "greater_or_equal": "less_or_equal",
    "less_than": "greater_than",
    "less_or_equal": "greater_or_equal",
    "contains": "in",
    "not_contains": "not_in",
    "in": "contains",
    "not_in": "not_contains",
}
"""The operator that says the same with its two sides exchanged."""
Operator = Literal[
    "equals",
    "not_equals",
    "greater_than",
    "greater_or_equal",
    "less_than",
    "less_or_equal",
    "contains",
    "not_contains",
    "in",
    "not_in",
    "exists",
    "not_exists",
    "starts_with",
    "ends_with",
    "is_type",
    "is_true",
]
OPERATORS: Final[tuple[str, ...]] = get_args(Operator)
ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "greater_than": operator.gt,
    "greater_or_equal": operator.ge,
    "less_than": operator.lt,
    "less_or_equal": operator.le,
}
TYPES: Final = ("string", "number", "integer", "boolean", "array", "object", "null")


class Mismatch(Exception):
    """An operator cannot compare these two values. `needs` says which values it compares."""

    def __init__(self, needs: str) -> None:
        super().__init__(needs)
        self.needs = needs


def holds(operator_name: str, left: Any, right: Any = None) -> bool:
    """Apply an operator other than ``exists`` and ``not_exists`` to two JSON values.

    Raises:
        Mismatch: the operator is not made for values of these types.
    """
    return _HOLDS[operator_name](left, right)


def json_type(value: Any) -> str:
    """The JSON type of a value: one of `TYPES`, but ``number`` for every number."""
    return _TYPE_NAMES.get(type(value)) or type(value).__name__


_TYPE_NAMES: Final[Mapping[type, str]] = {
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
    list: "array",
    dict: "object",
}


def is_type(value: Any, name: str) -> bool:
    """True if a value has the JSON type `name`. A number without a fraction, such as 1.0, is an ``integer``."""
    kind = json_type(value)
    if name == "integer":
        return kind == "number" and (isinstance(value, int) or value.is_integer())
    return kind == name


def equal(left: Any, right: Any) -> bool:
    """Equality of JSON values at any depth, without recursion. NaN is equal to nothing."""
    pairs = [(left, right)]
    while pairs:
        one, other = pairs.pop()
        kind = json_type(one)
        if kind != json_type(other):
            return False
        if kind == "array":
            if len(one) != len(other):
                return False
            pairs.extend(zip(one, other, strict=True))
        elif kind == "object":
            if one.keys() != other.keys():
                return False
            pairs.extend((item, other[key]) for key, item in one.items())
        elif one != other:
            return False
    return True


def _is_number(value: Any) -> bool:
    # NaN is the only number that is not equal to itself; it has no place in an order.
    return json_type(value) == "number" and bool(value == value)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def ordered(left: Any, right: Any) -> bool:
        if (isinstance(left, str) and isinstance(right, str)) or (_is_number(left) and _is_number(right)):
            return compare(left, right)
        raise Mismatch("two numbers or two strings")

    return ordered


def _contains(container: Any, item: Any) -> bool:
    if isinstance(container, list):
        # Python finds equal values faster than `equal`, but takes 1 and True for equal.
        return item in container and any(equal(each, item) for each in container)
    if isinstance(container, str | dict) and isinstance(item, str):
        return item in container
    raise Mismatch("a string in a string, a value in an array, or a string as a key of an object")


def _starts_with(left: Any, right: Any) -> bool:
    return _text(left).startswith(_text(right))


def _ends_with(left: Any, right: Any) -> bool:
    return _text(left).endswith(_text(right))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise Mismatch("two strings")


def _is_true(value: Any, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise Mismatch("a boolean")


_HOLDS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "equals": equal,
    "not_equals": lambda left, right: not equal(left, right),
    **{name: _ordered(compare) for name, compare in ORDER.items()},
    "contains": _contains,
    "not_contains": lambda left, right: not _contains(left, right),
    "in": lambda left, right: _contains(right, left),
    "not_in": lambda left, right: not _contains(right, left),
    "starts_with": _starts_with,
    "ends_with": _ends_with,
    "is_type": is_type,
    "is_true": _is_true,
}
