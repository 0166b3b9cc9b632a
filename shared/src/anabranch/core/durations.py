"""Durations: numbers of seconds, or strings such as ``"250ms"``, ``"30s"``, ``"1h30m"``.

Converts what users write into seconds.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta

MAX_SECONDS = 1_000_000_000.0
"""About 31 years: beyond it a duration is a mistake, and sums with timestamps lose precision."""

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SHOWN_CHARACTERS = 100
_SHOWN_BITS = 1_000

EXAMPLES = 'a number of seconds or a string such as "250ms", "30s", "5m", "2h"'


def parse_duration(value: object) -> float:
    """The duration in seconds, from 0 to ``MAX_SECONDS``.

    Accepts int, float, timedelta, ``"250ms"``, ``"30s"``, ``"5m"``, ``"2h"``, ``"1d"``, combinations
    (``"1h30m"``) and a number as text (``"30"``, as in an environment variable).

    Raises:
        ValueError: it is anything else, negative, not finite or too long; the message says which.
    """
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(f"{_shown(value)} is not a duration: use {EXAMPLES}")
    if not math.isfinite(seconds) or not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"{_shown(value)} is not between 0 and {MAX_SECONDS:.0f} seconds")
    return seconds


def _shown(value: object) -> str:
    """The value for a message; long values, and values that are neither text nor a number, are only described."""
    # Python refuses to write an integer of over 4,300 digits: repr() would raise another ValueError.
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return "a number of hundreds of digits"
    text = repr(value[:_SHOWN_CHARACTERS] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _seconds(value: object) -> float | None:
    # For Python, True is the integer 1.
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return _as_float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return _from_text(value.strip())
    return None


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer too large for a float: reported as out of range
        return math.inf


def _from_text(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _WHOLE.fullmatch(text):
        return None
    return math.fsum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def format_duration(seconds: float) -> str:
    """A duration as users write it: 90 is ``"1m30s"``, 0.25 is ``"250ms"``. Milliseconds are rounded."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        number, left = divmod(left, size)
        parts += [f"{number}{unit}"] if number else []
    return "".join(parts) or "0s"
