"""The state of a budget: its limit, what was spent of it, and what is reserved. Data, no decisions."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.core.costs import NO_COSTS
from anabranch.core.request.budget_fields import Limit

Amounts = tuple[int, int, int, int]
"""As `core.costs.Costs`."""


@dataclass(slots=True)
class Budget:
    """The budget of a run, a group or a task. `reserved` is what the members that were offered, or run, may still
    use."""

    limit: Limit
    spent: Amounts = NO_COSTS
    reserved: Amounts = NO_COSTS
    is_exceeded: bool = False
    """More was spent than the budget allows, or it refused a member for good. This was noted as a failure."""


def plus(one: Amounts, other: Amounts) -> Amounts:
    """The sum of two amounts of each kind."""
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


def minus(one: Amounts, other: Amounts) -> Amounts:
    """The difference of two amounts of each kind."""
    return one[0] - other[0], one[1] - other[1], one[2] - other[2], one[3] - other[3]


def times(one: Amounts, number: int) -> Amounts:
    """A multiple of an amount of each kind."""
    return one[0] * number, one[1] * number, one[2] * number, one[3] * number
