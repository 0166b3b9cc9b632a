"""Canonical JSON (RFC 8785): one text for each value, whatever the order of keys and the form of numbers. Pure.

Of I-JSON only: an integer that a double cannot hold exactly, NaN, an infinite number and an unpaired surrogate
have no canonical text, because two different values could have the same one.
"""

from __future__ import annotations

import math
import re
from hashlib import sha256
from typing import Any

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 200
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


class NotCanonical(ValueError):
    """The value has no canonical text; the message says why."""


def canonical(value: Any) -> bytes:
    """The canonical text of a JSON value, in UTF-8.

    Raises:
        NotCanonical: it has none.
    """
    parts: list[str] = []
    _write(value, parts, 0)
    try:
        return "".join(parts).encode()
    except UnicodeEncodeError:
        raise NotCanonical("a text has an unpaired surrogate") from None


def digest(value: Any) -> str:
    """SHA-256 of the canonical text, in hexadecimal digits.

    Raises:
        NotCanonical: the value has no canonical text.
    """
    return sha256(canonical(value)).hexdigest()


def _write(value: Any, parts: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise NotCanonical(f"the value is nested over {MAX_DEPTH} levels deep")
    if value is None or value is True or value is False:
        parts.append({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, str):
        parts.append(_text(value))
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise NotCanonical(f"the integer {value} is over 2**53 - 1")
        parts.append(str(value))
    elif isinstance(value, float):
        parts.append(_number(value))
    elif isinstance(value, dict):
        _write_object(value, parts, depth)
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            parts.append("," if position else "[")
            _write(item, parts, depth + 1)
        parts.append("]" if value else "[]")
    else:
        raise NotCanonical(f"a value of the type {type(value).__name__} is not JSON")


def _write_object(value: dict[Any, Any], parts: list[str], depth: int) -> None:
    if not all(isinstance(key, str) for key in value):
        raise NotCanonical("a key of an object is not a text")
    # By UTF-16 code units, not by code points.
    keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    for position, key in enumerate(keys):
        parts.append("," if position else "{")
        parts.append(_text(key))
        parts.append(":")
        _write(value[key], parts, depth + 1)
    parts.append("}" if value else "{}")


def _text(value: str) -> str:
    return f'"{_ESCAPED.sub(_escaped, value)}"'


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    return _SHORT.get(char) or f"\\u{ord(char):04x}"


def _number(value: float) -> str:
    """A number as ECMAScript prints it: the digits of Python, which are the shortest too, in other places."""
    if not math.isfinite(value):
        raise NotCanonical(f"the number {value} is not JSON")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, power = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    # The value is 0.DIGITS times ten to the power of `point`.
    point = len(whole) + int(power or 0)
    digits = whole + fraction
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    exponent = point - 1
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if exponent > 0 else '-'}{abs(exponent)}"
