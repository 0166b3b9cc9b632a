"""Python calls of an ordinary task stay within a budget, by component: a change that makes one dearer is found."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from call_counts import TASKS, calls_in_new_process

BUDGET_OF_A_TASK = {"one task": 1_430, "three by three": 475, "chain of four": 3_640}
"""Calls of all services for each task, most."""
BUDGET_OF_THE_FIRST = {"three by three": 720}
"""The same for the first request of its shape."""


@cache
def counted(shape: str, *, first: bool = False) -> Counter[str]:
    """The calls by component, counted once for all tests."""
    return calls_in_new_process(shape, first=first)


@pytest.mark.parametrize("shape", TASKS)
def test_a_task_costs_no_more_calls_than_its_budget(shape: str) -> None:
    found, budget = counted(shape).total() / TASKS[shape], BUDGET_OF_A_TASK[shape]

    assert budget / 2 < found <= budget, (
        f"{shape}: {found:,.0f} calls for each task, {budget / 2:,.0f} to {budget:,} are allowed. Find the "
        "component with `python -m call_counts`, or change the budget and give the reason in the commit."
    )


@pytest.mark.parametrize("shape", BUDGET_OF_THE_FIRST)
def test_the_first_request_of_a_shape_costs_no_more_than_its_budget(shape: str) -> None:
    found, budget = counted(shape, first=True).total() / TASKS[shape], BUDGET_OF_THE_FIRST[shape]

    assert budget / 2 < found <= budget, f"{shape}: {found:,.0f} calls for each task, {budget:,} are allowed"


def test_every_service_is_counted() -> None:
    components = {name.split("/")[0] for name in counted("three by three")}

    assert components >= {"agency", "taskgroup", "eventmanager", "core", "runtime"}
