"""What a plan shows of the budgets of a request: each with what its tasks are estimated to use. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from anabranch.core.costs import NO_COSTS, seconds_of, usd_of
from anabranch.core.request.budget_fields import Amounts

if TYPE_CHECKING:
    from anabranch.core.request.planning import Plan, PlannedTask

KINDS = ("usd", "tokens", "seconds", "executions")
"""In the order of `core.costs.Costs`."""


def budgets_of(plan: Plan) -> list[dict[str, Any]]:
    """The budgets of a request, in the order run, groups, tasks: `{of, budget, estimated}`. `estimated` is the sum
    over the members that are known before the run, without retries and iterations."""
    request = plan.request
    found = [_shown("run", request.budget, plan.tasks)] if request.budget is not None else []
    for group in request.task_groups:
        tasks = [task for task in plan.tasks if task.group == group.name]
        if group.budget is not None:
            found.append(_shown(group.name, group.budget, tasks))
    found += [_shown(task.label, task.spec.budget, [task]) for task in plan.tasks if task.spec.budget is not None]
    return found


def _shown(of: str, budget: Amounts, tasks: Sequence[PlannedTask]) -> dict[str, Any]:
    estimated = list(NO_COSTS)
    for task in tasks:
        members = 1 if task.members is None else task.members
        amounts = _of_member(task)
        estimated = [known + members * amount for known, amount in zip(estimated, amounts, strict=True)]
    shown = dict(zip(KINDS, _for_people(estimated), strict=True))
    named = [kind for kind, limit in zip(KINDS, budget.limit, strict=True) if limit is not None]
    return {"of": of, "budget": budget.to_document(), "estimated": {kind: shown[kind] for kind in named}}


def _of_member(task: PlannedTask) -> list[int]:
    estimate = task.spec.estimate
    amounts = [amount or 0 for amount in (estimate.limit if estimate is not None else (0, 0, 0, 0))]
    if task.spec.agent:
        amounts[3] = 1
    return amounts


def _for_people(amounts: Sequence[int]) -> tuple[float, int, float, int]:
    nanos, tokens, micros, executions = amounts
    return usd_of(nanos), tokens, seconds_of(micros), executions


def over_budget(budgets: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Warnings about budgets that are lower than what their tasks are estimated to use."""
    for each in budgets:
        for kind, limit in each["budget"].items():
            if each["estimated"][kind] > limit:
                whose = "the run" if each["of"] == "run" else each["of"]
                yield (
                    f"the budget of {whose} allows {kind} of {limit:,}, and its tasks are estimated to use "
                    f"{each['estimated'][kind]:,}: further members will not start, and the run will fail"
                )
