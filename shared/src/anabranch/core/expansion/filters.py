"""The conditions of a ``filter`` rule: an operator and a literal. Data that is parsed, never code that runs. Pure.

========  ==================================================================================================
``=``     equal (``==`` is read too); ``!=`` is its opposite, so also true of an item without the field
``>``     ``>=`` ``<`` ``<=``: by number or by text, never a mixture
``in``    equal to one of ``a, b, c``, or of a JSON list
``~``     the text has the literal in it (as it is written: no pattern); a list has an element equal to it
========  ==================================================================================================

A literal that is a number compares as a number, with numbers and with text that is one; any other literal
compares as text, with everything but a string in its compact JSON form (``=true``, ``=null``). A literal in
JSON quotes is always text. Dates such as ``2024-05-01`` compare correctly as text.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from anabranch.core.templates import MISSING, as_text

# An operator comes before its prefixes. `in` needs a space or a bracket after it, unlike a word such as `inside`.
_CONDITION = re.compile(r"\s*+(!=|>=|<=|==|=|>|<|~|in(?=[\s(\[]))(.*)", re.DOTALL)
# No two repetitions that can match the same digits: trying each split takes the square of a long text.
_NUMBER = re.compile(r"[+-]?(\d++(\.\d*+)?|\.\d++)([eE][+-]?\d++)?", re.ASCII)
_LONGEST_WHOLE = 300
_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


@dataclass(frozen=True, slots=True)
class Literal:
    """The right-hand side of a condition. `number` is None if the text is not a number."""

    text: str
    number: float | None = None

    def equals(self, value: Any) -> bool:
        """Compare as a number if the literal is one, else as text."""
        if self.number is not None:
            return as_number(value) == self.number
        return as_text(value) == self.text

    def is_in(self, value: Any) -> bool:
        """True if `value` is a list with an equal element, or its text contains the literal."""
        if isinstance(value, list):
            return any(self.equals(item) for item in value)
        return not isinstance(value, Mapping) and self.text in as_text(value)


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator with its literals (several for ``in``)."""

    operator: str
    literals: tuple[Literal, ...]

    def holds(self, value: Any) -> bool:
        """True if `value` meets the condition; `MISSING` stands for a field that an item lacks."""
        if self.operator == "!=":
            return value is MISSING or not self.literals[0].equals(value)
        if value is MISSING:
            return False
        if self.operator in ("=", "in"):
            return any(literal.equals(value) for literal in self.literals)
        if self.operator == "~":
            return self.literals[0].is_in(value)
        return _ordered(self.operator, value, self.literals[0])


def _ordered(symbol: str, value: Any, literal: Literal) -> bool:
    if literal.number is not None:
        number = as_number(value)
        return number is not None and _ORDER[symbol](number, literal.number)
    return isinstance(value, str) and _ORDER[symbol](value, literal.text)


def as_number(value: Any) -> float | None:
    """The number that `value` is, or that its text represents; None for anything else, including booleans."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    return _read_number(value.strip()) if isinstance(value, str) else None


def _read_number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    # Integers stay integers: as floats, different ids over 2**53 could become equal.
    whole = text.lstrip("+-").isdigit() and len(text) <= _LONGEST_WHOLE
    return int(text) if whole else float(text)


def parse_condition(written: Any) -> Condition:
    """Parse a condition; a value that is not a string means equality. Raises ValueError with the reason."""
    if not isinstance(written, str):
        return Condition("=", (_literal(as_text(written)),))
    found = _CONDITION.fullmatch(written)
    if found is None:
        raise ValueError(f"{written!r} has no operator: start it with one of = != > >= < <= in ~")
    symbol, rest = found[1], found[2].strip()
    literals = _listed(rest) if symbol == "in" else (_literal(rest),)
    if not literals or (not rest and symbol not in ("=", "==", "!=")):
        raise ValueError(f"{written!r} has no value to compare with: write one after {symbol!r}")
    return Condition("=" if symbol == "==" else symbol, literals)


def _literal(text: str) -> Literal:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return Literal(_unquoted(text))
    return Literal(text, _read_number(text))


def _unquoted(text: str) -> str:
    try:
        return str(orjson.loads(text))
    except orjson.JSONDecodeError:
        return text[1:-1]


def _listed(text: str) -> tuple[Literal, ...]:
    # A string of a JSON list is in quotes, so it is text, as a literal in quotes outside of a list.
    if text.startswith("["):
        return tuple(
            Literal(item) if isinstance(item, str) else _literal(as_text(item)) for item in _json_list(text)
        )
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return tuple(_literal(part.strip()) for part in text.split(",") if part.strip())


def _json_list(text: str) -> list[Any]:
    try:
        items = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{text!r} is not a JSON list: {error}") from error
    if not isinstance(items, list):
        raise ValueError(f"{text!r} is not a JSON list")
    return items
