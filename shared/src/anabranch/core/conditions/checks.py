"""The limits of conditions, and checks of their parts: paths and literals. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from anabranch.core.conditions.operators import ORDER, TYPES, json_type
from anabranch.core.conditions.rendering import shown

MAX_TEXT: Final = 10_000
"""Maximum characters of the text form."""
MAX_DEPTH: Final = 32
"""Maximum levels of a condition, and of a literal in it. Parsing and evaluation recurse at most this deep."""
MAX_TERMS: Final = 1_000
"""Maximum comparisons of one condition."""
MAX_VALUES: Final = 10_000
"""Maximum values in all literals of one condition, those inside of lists and objects included."""
MAX_FIELD: Final = 2_000
"""Maximum characters of a path."""
_LARGEST: Final = 2**64 - 1
_SMALLEST: Final = -(2**63)
_UNFIT_IN_A_FIELD: Final = re.compile(r"[{}\x00-\x1f\x7f\ud800-\udfff]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")

Path: TypeAlias = tuple[str | int, ...]


class InvalidCondition(Exception):
    """A condition has a wrong shape. `reason` says why, `hint` what to write.

    ``path`` leads to the mistake within the condition: ``("all", 0, "operator")``. ``column`` is its place in the
    text form, from 1; 0 if it is not in a text.
    """

    def __init__(self, reason: str, hint: str = "", path: Sequence[str | int] = (), column: int = 0) -> None:
        super().__init__(reason, hint, tuple(path), column)
        self.reason = reason
        self.hint = hint
        self.path: Path = tuple(path)
        self.column = column

    def __str__(self) -> str:
        place = f"column {self.column}: " if self.column else ""
        return f"{place}{self.reason}" + (f" ({self.hint})" if self.hint else "")


def check_literal(value: object, path: Path = (), limit: int = MAX_VALUES) -> int:
    """Return the number of JSON values in a literal. Keys of objects count as values.

    Raises:
        InvalidCondition: it has more than `limit`, is nested too deeply, or JSON has no such value.
    """
    count = 0
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        count += 1
        if count > limit:
            raise InvalidCondition(f"the literals have more than {MAX_VALUES:,} values", "", path)
        if depth > MAX_DEPTH:
            raise InvalidCondition(f"the literal is nested deeper than {MAX_DEPTH} levels", "", path)
        if isinstance(item, list):
            waiting.extend((each, depth + 1) for each in item)
        elif isinstance(item, dict):
            waiting.extend((_key(key, path), depth) for key in item)
            waiting.extend((each, depth + 1) for each in item.values())
        elif problem := _scalar_problem(item):
            raise InvalidCondition(f"the literal {problem}", "", path)
    return count


def _key(key: object, path: Path) -> str:
    if isinstance(key, str):
        return key
    raise InvalidCondition("the literal has a key that is not a string", "", path)


def _scalar_problem(value: object) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return "is a text with a lone surrogate" if _SURROGATE.search(value) else None
    if isinstance(value, int):
        return None if _SMALLEST <= value <= _LARGEST else "is an integer of more than 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"is {value}, which JSON does not have"
    return f"is a {type(value).__name__}, which JSON does not have"


def literal_problem(operator: str, value: Any) -> tuple[str, str] | None:
    """Why this operator can compare nothing with this literal, and what to write; None if it can."""
    kind = json_type(value)
    if operator in ORDER and kind not in ("number", "string"):
        return f"`{operator}` compares numbers or strings, and {shown(value)} is neither", ""
    if operator in ("in", "not_in") and kind not in ("array", "string", "object"):
        return f"`{operator}` needs a list, and {shown(value)} is none", f"write [{shown(value)}]"
    if operator in ("starts_with", "ends_with") and kind != "string":
        return f"`{operator}` needs a string, and {shown(value)} is none", f'write "{shown(value)}"'
    if operator == "is_type" and value not in TYPES:
        return f"{shown(value)} is not the name of a type", f"one of {', '.join(TYPES)}"
    return None


def field_problem(field: str) -> str | None:
    """Why a text cannot be a path; None if it can."""
    if not field.strip():
        return "is empty"
    if field != field.strip():
        return "begins or ends with a space"
    if len(field) > MAX_FIELD:
        return f"has {len(field):,} characters, the maximum is {MAX_FIELD:,}"
    if found := _UNFIT_IN_A_FIELD.search(field):
        return f"contains {found[0]!a}"
    return None
