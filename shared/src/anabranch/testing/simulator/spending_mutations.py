"""Breaks budgets, costs and the cache of results on purpose: see `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anabranch_taskgroup.owner import cache_lookup
from anabranch_taskgroup.session import budgets, cache, endings, reports


def _does_nothing(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: None


def _counts_again(original: Callable[..., Any]) -> Callable[..., Any]:
    """What attempts have used is added with each report."""

    def note(task: Any, chunk: Any, report: Any) -> None:
        chunk.spent.clear()
        original(task, chunk, report)
        task.nanos += sum(nanos for _, _, nanos, _ in report.spent)

    return note


def _without_variables(original: Callable[..., Any]) -> Callable[..., Any]:
    """The key of a member is that of its task."""
    return lambda value: original({**value, "variables": {}, "inputs": None})


def _allows_all(original: Callable[..., Any]) -> Callable[..., Any]:
    """Members start although a budget is used up."""
    return lambda *given: (budgets.MANY, original(*given)[1])


BROKEN: Mapping[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "budget-kept": ("what is reserved for a task stays so after its end", endings, "settle_costs", _does_nothing),
    "spent-again": ("what a member used counts twice", reports, "note_spent", _counts_again),
    "budget-blind": ("members start although a budget is used up", budgets, "_allowed", _allows_all),
    "cache-other": ("members of a task share one cached value", cache_lookup, "digest", _without_variables),
    "flight-kept": ("members that wait for a value do not get it", cache, "_share", _does_nothing),
}
"""By name: what is broken, and the function that is replaced."""
