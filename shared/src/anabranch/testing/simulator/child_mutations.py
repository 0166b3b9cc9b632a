"""Breaks sub-runs on purpose: see `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from anabranch.core.names import run_id_for
from anabranch_agency.run import actor as agency_actor
from anabranch_agency.run import children as agency_children
from anabranch_taskgroup.owner import children
from anabranch_taskgroup.session.children import ChildId
from anabranch_taskgroup.session.steps import sub_run


def requests_another(original: Callable[..., Any]) -> Callable[..., Any]:
    """Each request of a sub-run has an id of its own."""
    numbers = count()

    def child_id(*given: Any) -> ChildId:
        request_id = f"{original(*given).request_id}~{next(numbers)}"
        return ChildId(request_id, run_id_for(request_id))

    return child_id


def ends_at_once(original: Callable[..., Any]) -> Callable[..., Any]:
    """A stopped step cancels its sub-runs, and does not wait for their ends."""

    def lingers(self: Any, turn: Any, step: Any, event: Any) -> bool:
        original(self, turn, step, event)
        return False

    return lingers


def admits_anyway(original: Callable[..., Any]) -> Callable[..., Any]:
    """A sub-run that its parent cancelled before is admitted."""

    def is_stopped_early(turn: Any, run_id: str) -> bool:
        return False

    return is_stopped_early


def asks_nobody(original: Callable[..., Any]) -> Callable[..., Any]:
    """A new owner does not request or ask about open sub-runs."""

    async def ask(self: Any, state: Any, effects: Any) -> None:
        return None

    return ask


BROKEN: Mapping[str, tuple[str, Any, str, Callable[..., Any], tuple[str, ...]]] = {
    "second-child": (
        "a sub-run that is requested again is another one",
        children,
        "child_id",
        requests_another,
        ("kill", "restart", "expel"),
    ),
    "child-left": ("a stopped step does not wait for its sub-runs", sub_run.RunKind, "lingers", ends_at_once, ()),
    "child-anyway": (
        "a sub-run that was cancelled before its request is admitted",
        agency_children,
        "is_stopped_early",
        admits_anyway,
        ("kill", "slow", "lost-calls"),
    ),
    "child-unasked": (
        "sub-runs are neither requested nor asked about again",
        children.Children,
        "ask",
        asks_nobody,
        ("kill", "restart"),
    ),
}
"""By name: the wrong behaviour, the module or class and its function that is replaced, what makes the replacement,
and the faults under which it is found."""
ALSO: Mapping[str, tuple[str, Any, str, Callable[..., Any], tuple[str, ...]]] = {
    "child-anyway": ("likewise at its submission", agency_actor, "is_stopped_early", admits_anyway, ()),
}
"""Second mutations, of mechanisms that would otherwise compensate for the first."""
