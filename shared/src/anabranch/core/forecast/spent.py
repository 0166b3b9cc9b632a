"""What the attempts of a simulated run use. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from anabranch.core.costs import MICROS, NANOS
from anabranch.core.forecast.batches import Batch
from anabranch.core.forecast.draws import Draws
from anabranch.core.forecast.work import NOTHING, Budget, WorkTask

Used = tuple[float, float, float, float]
"""Dollars, tokens, seconds of attempts, and attempts."""
UNITS = (1 / NANOS, 1.0, 1 / MICROS, 1.0)
"""Of a budget's limit, in those of `Used`."""


class Spent:
    """The sum for the run, and for each budget."""

    def __init__(self, budgets: Sequence[Budget]) -> None:
        self._budgets = budgets
        self.total: Used = (0.0, 0.0, 0.0, 0.0)
        self._of_budget: list[Used] = [self.total] * len(budgets)

    def add(self, task: WorkTask, batch: Batch, draws: Draws) -> None:
        """Add the attempts of a batch."""
        if task.kind != "task":
            return
        count = batch.attempts
        usd, tokens = (
            0.0 if each is NOTHING or each.values[-1] == 0 else each.total(count, draws)
            for each in (task.attempts.usd, task.attempts.tokens)
        )
        used = (usd, tokens, batch.seconds * batch.width, float(count))
        self.total = _sum(self.total, used)
        for number, budget in enumerate(self._budgets):
            if task.index in budget.tasks:
                self._of_budget[number] = _sum(self._of_budget[number], used)

    def holds(self, number: int) -> bool:
        """True if the tasks of a budget use no more than it allows."""
        limits = self._budgets[number].limit
        return all(
            limit is None or used <= limit * unit + 1e-9
            for used, limit, unit in zip(self._of_budget[number], limits, UNITS, strict=True)
        )


def _sum(one: Used, other: Used) -> Used:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]
