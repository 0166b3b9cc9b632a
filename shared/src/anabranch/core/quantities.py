"""Quantities as Kubernetes writes them: ``"500m"`` processors, ``"8Gi"`` of memory.

Amounts are exact: fractions are kept until the end, and then rounded up, as Kubernetes rounds them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Final

MAX_AMOUNT: Final = 10**18
"""The largest amount: beyond it a quantity is a mistake."""
MAX_CHARACTERS: Final = 40

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
}
_FACTORS: Mapping[str, Decimal] = _DECIMAL | {unit: Decimal(size) for unit, size in _BINARY.items()}
_QUANTITY = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(?:([eE][+-]?[0-9]{1,3})|([KMGTPE]i|[numkMGTPE]?))")

EXAMPLES: Final = '2, "500m", "8Gi" or "1.5G"'


def parse_quantity(value: object) -> Decimal:
    """The amount of a quantity: a number, or text with a suffix of Kubernetes (``m``, ``k``, ``M``, ``Gi``,
    ``e3``).

    Raises:
        ValueError: it is anything else, negative or too large; the message says which.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"must be a quantity, such as {EXAMPLES}, and not {type(value).__name__}")
    amount = _of_text(value.strip()) if isinstance(value, str) else _of_number(value)
    if amount is None:
        raise ValueError(
            f"{str(value)[:MAX_CHARACTERS]!r} is not a quantity: use a number, or text such as {EXAMPLES}"
        )
    if not 0 <= amount <= MAX_AMOUNT:
        raise ValueError(f"{str(value)[:MAX_CHARACTERS]} is not between 0 and {MAX_AMOUNT:.0e}")
    return amount


def _of_number(value: float) -> Decimal | None:
    try:
        # By its text: the float 0.1 is meant as 0.1.
        amount = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    except (InvalidOperation, ValueError):
        return None
    return amount if amount.is_finite() else None


def _of_text(text: str) -> Decimal | None:
    found = _QUANTITY.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    if found is None:
        return None
    number, exponent, suffix = found.groups()
    return Decimal(number + exponent) if exponent else Decimal(number) * _FACTORS[suffix]


def thousandths(value: object) -> int:
    """An amount in thousandths, rounded up: ``"500m"`` is 500. Raises ValueError, see `parse_quantity`."""
    return int((parse_quantity(value) * 1000).to_integral_value(ROUND_CEILING))


def whole(value: object) -> int:
    """An amount as a whole number, rounded up: ``"1Ki"`` is 1024. Raises ValueError, see `parse_quantity`."""
    return int(parse_quantity(value).to_integral_value(ROUND_CEILING))


def show_thousandths(amount: int) -> str:
    """Thousandths as Kubernetes writes them: 500 is ``500m``, 2000 is ``2``."""
    return str(amount // 1000) if amount % 1000 == 0 else f"{amount}m"


def show_bytes(amount: int) -> str:
    """Bytes as Kubernetes writes them, in the largest unit without a fraction: 1024 is ``1Ki``."""
    for unit, size in reversed(_BINARY.items()):
        if amount and amount % size == 0:
            return f"{amount // size}{unit}"
    return str(amount)
