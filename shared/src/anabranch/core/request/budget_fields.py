"""The budgets of a request, and the estimates that they are reserved by.

A budget limits what a run, a group or a task may use; see docs/budgets.md for the rules.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema, model_validator

from anabranch.core.costs import MAX_AMOUNT, MICROS, nanos_of
from anabranch.core.request.document import Document
from anabranch.core.request.fields import Duration, Index
from anabranch.core.request.flow import refusal

Limit = tuple[int | None, int | None, int | None, int | None]
"""An amount of each kind, as in `core.costs.Costs`: billionths of a dollar, tokens, microseconds, calls. None: not
limited."""
NO_LIMIT: Limit = (None, None, None, None)


def _check_usd(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise refusal(f"{repr(value)[:100]} is no amount in dollars", "write a number of 0 or more, such as 2.50")
    if value > 9e9:
        raise refusal("over 9,000,000,000 dollars", "leave it out, if nothing is to be limited")
    return float(value)


def _plain_number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


Usd = Annotated[
    float,
    BeforeValidator(_check_usd),
    PlainSerializer(_plain_number),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 9e9, "description": "an amount in dollars"}),
]


class Amounts(Document):
    """Amounts of what work uses: of a budget the most, of an estimate what one member will use."""

    usd: Usd | None = None
    tokens: Index | None = None
    seconds: Duration | None = None
    """Of all attempts together, however many run at once."""
    executions: Index | None = None
    """Calls of agents: each attempt is one."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.limit == NO_LIMIT:
            raise refusal("names no amount", "give it at least one of usd, tokens, seconds, executions")
        return self

    @property
    def limit(self) -> Limit:
        """The amounts as integers."""
        return (
            None if self.usd is None else nanos_of(self.usd),
            self.tokens,
            None if self.seconds is None else min(round(self.seconds * MICROS), MAX_AMOUNT),
            self.executions,
        )


def tightest(one: Limit | None, other: Limit | None) -> Limit | None:
    """The lower of two limits, for each kind of amount."""
    if one is None or other is None:
        return one or other
    first, second, third, fourth = (_lower(mine, yours) for mine, yours in zip(one, other, strict=True))
    return first, second, third, fourth


def _lower(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)
