"""What work has used: money, tokens, seconds and executions. Pure.

All amounts are integers, so that sums are exact whatever their order: money in billionths of a dollar, time in
microseconds. Documents for people have dollars and seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, NamedTuple

NANOS = 1_000_000_000
"""Billionths in a dollar."""
MICROS = 1_000_000
"""Microseconds in a second."""
MAX_AMOUNT = 2**63 - 1
"""The largest amount, also of a sum: 9.2 billion dollars. JSON encoders write no larger integer."""

Document = dict[str, Any]


class Costs(NamedTuple):
    """What some work has used: billionths of a dollar, tokens, microseconds of attempts, and calls of agents."""

    nanos: int = 0
    tokens: int = 0
    micros: int = 0
    executions: int = 0


NO_COSTS = Costs()
TaskCosts = tuple[str, int, int, int, int]
"""The name of a task, and its costs."""
GroupCosts = tuple[str, str, int, int, int, int]
"""The names of a group and a task of it, and the costs of the task."""


def total_of(parts: Iterable[Sequence[int]]) -> tuple[int, int, int, int]:
    """The sum of costs."""
    nanos = tokens = micros = executions = 0
    for part in parts:
        nanos += part[0]
        tokens += part[1]
        micros += part[2]
        executions += part[3]
    return min(nanos, MAX_AMOUNT), min(tokens, MAX_AMOUNT), micros, executions


def nanos_of(usd: float | Decimal | str) -> int:
    """An amount in dollars as billionths of a dollar, rounded half to even.

    A float counts as the shortest decimal number that it is printed as, so 0.1 is exactly a tenth of a dollar.

    Raises:
        ValueError: it is negative, not finite, or over 9 billion dollars.
        TypeError: it is not a number.
    """
    if isinstance(usd, bool) or not isinstance(usd, (int, float, Decimal, str)):
        raise TypeError(f"an amount in dollars must be a number, not {type(usd).__name__}")
    try:
        amount = usd if isinstance(usd, Decimal) else Decimal(str(usd))
    except InvalidOperation:
        raise ValueError(f"an amount in dollars must be a number, not {usd!r}") from None
    if not amount.is_finite() or amount < 0 or amount * NANOS > MAX_AMOUNT:
        raise ValueError(f"an amount in dollars must be from 0 to 9,000,000,000, not {usd}")
    return int((amount * NANOS).to_integral_value(rounding=ROUND_HALF_EVEN))


def tokens_of(tokens: int) -> int:
    """A number of tokens, checked.

    Raises:
        ValueError: it is negative, or over 2**63 - 1.
        TypeError: it is not an integer.
    """
    if isinstance(tokens, bool) or not isinstance(tokens, int):
        raise TypeError(f"a number of tokens must be an integer, not {type(tokens).__name__}")
    if not 0 <= tokens <= MAX_AMOUNT:
        raise ValueError(f"a number of tokens must be from 0 to 2**63 - 1, not {tokens}")
    return tokens


def usd_of(nanos: int) -> float:
    """Billionths of a dollar in dollars. The division is rounded once, so a tenth is printed as 0.1."""
    return nanos / NANOS


def seconds_of(micros: int) -> float:
    """Microseconds in seconds."""
    return micros / MICROS


def document_of(costs: Sequence[int]) -> Document:
    """Costs in the form of final records: `{usd, tokens, seconds, executions}`."""
    nanos, tokens, micros, executions = costs
    return {"usd": nanos / NANOS, "tokens": tokens, "seconds": micros / MICROS, "executions": executions}


def costs_of(document: Mapping[str, Any]) -> Costs:
    """The reverse of `document_of`."""
    nanos, micros = round(document["usd"] * NANOS), round(document["seconds"] * MICROS)
    return Costs(nanos, document["tokens"], micros, document["executions"])


def no_costs() -> Document:
    """The costs of a run that never started."""
    return {**document_of(NO_COSTS), "tasks": [], "tasks_omitted": 0}


def costs_in(body: Mapping[str, Any]) -> Document:
    """The costs in a final record, or in the document of a result. Records of earlier releases have none."""
    return body.get("costs") or no_costs()
