"""Budgets and estimates of a request: what is refused and where, and what the plan shows."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.request.admission import read_request
from anabranch.core.request.budget_fields import Amounts, tightest


def request(
    task: dict[str, Any] | None = None, group: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    tasks = [{"name": "t", "agent": "a", **(task or {})}]
    return {"task_groups": [{"name": "g", "tasks": tasks, **(group or {})}], **more}


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (request(budget={}), "/budget"),
        (request(budget={"usd": -1}), "/budget/usd"),
        (request(budget={"usd": "1"}), "/budget/usd"),
        (request(budget={"usd": 1e10}), "/budget/usd"),
        (request(budget={"euro": 1}), "/budget/euro"),
        (request(budget={"tokens": 1.5}), "/budget/tokens"),
        (request(budget={"seconds": "soon"}), "/budget/seconds"),
        (request(group={"budget": {"executions": -1}}), "/task_groups/0/budget/executions"),
        (request({"estimate": {"usd": True}}), "/task_groups/0/tasks/0/estimate/usd"),
    ],
)
def test_an_amount_that_is_none_is_refused(document: dict[str, Any], path: str) -> None:
    found = read_request(document)

    assert [error.path for error in found.errors] == [path]


@pytest.mark.parametrize("field", ["budget", "estimate"])
def test_a_task_without_members_has_no_budget(field: str) -> None:
    document = request()
    document["task_groups"][0]["tasks"] = [{"name": "w", "wait": {"for": 1}, field: {"usd": 1}}]

    [error] = read_request(document).errors
    assert error.path == "/task_groups/0/tasks/0"
    assert "starts no member" in error.message


def test_durations_and_zero_are_amounts() -> None:
    found = Amounts.model_validate({"usd": 0, "tokens": 0, "seconds": "2m", "executions": 0})

    assert found.limit == (0, 0, 120_000_000, 0)
    assert Amounts.model_validate({"usd": 0.1}).limit == (100_000_000, None, None, None)
    assert Amounts.model_validate({"usd": 5}).to_document() == {"usd": 5}


def test_the_lower_of_two_limits_counts() -> None:
    assert tightest((5, None, 3, None), (4, 7, None, None)) == (4, 7, 3, None)
    assert tightest(None, (1, 2, 3, 4)) == tightest((1, 2, 3, 4), None) == (1, 2, 3, 4)


def test_the_plan_shows_budgets_and_warns() -> None:
    expansion = {"type": "array", "array_mapping": {"n": list(range(100))}}
    task = {"estimate": {"usd": 0.1, "tokens": 10}, "expansion_config": expansion, "budget": {"executions": 100}}
    document = read_request(request(task, budget={"usd": 5})).to_document()

    assert document["budgets"] == [
        {"of": "run", "budget": {"usd": 5}, "estimated": {"usd": 10.0}},
        {"of": "g/t", "budget": {"executions": 100}, "estimated": {"executions": 100}},
    ]
    assert document["tasks"][0]["estimate"] == {"usd": 0.1, "tokens": 10}
    [warning] = document["warnings"]
    assert warning.startswith("the budget of the run allows usd of 5, and its tasks are estimated to use 10.0")


def test_a_plan_without_budgets_is_as_before() -> None:
    document = read_request(request()).to_document()

    assert "budgets" not in document
    assert "estimate" not in document["tasks"][0]
