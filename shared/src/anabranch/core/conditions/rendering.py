"""Writes conditions and values as text: whole conditions for a plan, shortened values for messages. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from anabranch.core.conditions.operators import Data, json_type

SHOWN: Final = 60
"""Maximum characters of a value in a message."""
_ITEMS: Final = 8
_LEVELS: Final = 2
_LARGE_BITS: Final = 200
PATH: Final = r"[^\W][\w\-/]*(?:\.[\w\-/]+)*"
"""A path that needs no backticks in the text form."""
_PLAIN_PATH: Final = re.compile(PATH)
NOT_PATHS: Final = frozenset({"true", "false", "null", "not", "and", "or"})
"""Words that are no paths in the text form, except in backticks."""
NUMERIC: Final = re.compile(r"[\d.]+(?:[eE]-?\d*)?", re.ASCII)
"""A word that a reader would take for a number."""
SYMBOLS: Final = {
    "equals": "==",
    "not_equals": "!=",
    "greater_than": ">",
    "greater_or_equal": ">=",
    "less_than": "<",
    "less_or_equal": "<=",
    "not_in": "not in",
}
"""Operators whose text form is not their name."""


def to_text(condition: Data) -> str:
    """Return the text form of a condition in its data form.

    Parsing it gives the same data, except that a group of one condition is written as this condition. The text has
    no maximum length, other than text that is parsed.
    """
    return _text(condition, "")


def _text(node: Data, around: str) -> str:
    """`around` is the operator that the text becomes part of: ``||``, ``&&``, ``!`` or none."""
    if isinstance(node, bool):
        return "true" if node else "false"
    if "not" in node:
        return "!" + _text(node["not"], "!")
    for name, symbol in (("all", "&&"), ("any", "||")):
        if name not in node:
            continue
        if len(node[name]) == 1:
            return _text(node[name][0], around)
        text = f" {symbol} ".join(_text(each, symbol) for each in node[name])
        return f"({text})" if around and (around, symbol) != ("||", "&&") else text
    text = _term(node)
    return f"({text})" if around == "!" and node["operator"] not in ("is_true", "exists", "not_exists") else text


def _term(term: Data) -> str:
    field, operator = path_text(term["field"]), term["operator"]
    if operator == "is_true":
        return field
    if operator in ("exists", "not_exists"):
        return f"{operator}({field})"
    right = path_text(term["value_field"]) if "value_field" in term else literal_text(term["value"])
    return f"{field} {SYMBOLS.get(operator, operator)} {right}"


def path_text(path: str) -> str:
    """A path as the text form has it: in backticks if it has other characters than those of a word."""
    if _PLAIN_PATH.fullmatch(path) and path not in NOT_PATHS and not NUMERIC.fullmatch(path):
        return path
    inner = json.dumps(path, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("`", "\\`")
    return f"`{inner}`"


def literal_text(value: Any) -> str:
    """A literal as the text form has it: JSON."""
    return json.dumps(value, ensure_ascii=False)


def shown(value: Any) -> str:
    """A value in a message, as JSON of at most `SHOWN` characters. Takes no time that grows with the value."""
    return clipped(_shown(value, _LEVELS), SHOWN)


def clipped(text: str, limit: int) -> str:
    """A text of at most `limit` characters, with ``...`` in place of what is left out."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _shown(value: Any, levels: int) -> str:
    kind = json_type(value)
    if kind == "string":
        return json.dumps(value[:SHOWN], ensure_ascii=False) + ("..." if len(value) > SHOWN else "")
    if kind == "array":
        items = [_shown(each, levels - 1) for each in value[:_ITEMS]] if levels else []
        return f"[{', '.join(items + ['...'] * (len(value) > len(items)))}]"
    if kind == "object":
        keys = list(value)[:_ITEMS] if levels else []
        items = [f"{_shown(key, 0)}: {_shown(value[key], levels - 1)}" for key in keys]
        return f"{{{', '.join(items + ['...'] * (len(value) > len(items)))}}}"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > _LARGE_BITS:
        return f"an integer of {value.bit_length():,} bits"
    return json.dumps(value) if kind in ("number", "boolean", "null") else kind
