"""Breaks the end of runs on purpose: see `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anabranch_taskgroup.session import actor, compensation, phases
from anabranch_taskgroup.worker import retries


def undoes_again(original: Callable[..., Any]) -> Callable[..., Any]:
    """Undo the last completed member of each task twice."""

    def undone_members(undone: Any) -> Any:
        found = original(undone)
        return (found[0], *found) if undone.order.expansion is not None else found

    return undone_members


def undoes_forward(original: Callable[..., Any]) -> Callable[..., Any]:
    """Undo tasks in the order of their completion."""

    def add_compensations(turn: Any, run: Any) -> Any:
        run.undo.reverse()
        return original(turn, run)

    return add_compensations


def joins_again(original: Callable[..., Any]) -> Callable[..., Any]:
    """Begin compensations with each group that ends."""

    def has_ended(run: Any) -> bool:
        return original(run) or (bool(run.undo) and any(group.is_reported for group in run.groups.values()))

    return has_ended


def halts_all(original: Callable[..., Any]) -> Callable[..., Any]:
    """A stop of a run reaches the groups of its end."""

    def halts(run: Any, reason: Any) -> Any:
        expected = run.phases
        run.phases = ()
        yield from original(run, reason)
        run.phases = expected

    return halts


def forgets_attempts(original: Callable[..., Any]) -> Callable[..., Any]:
    """Each failed attempt is the first of its retrier."""

    def retrial_after(policies: Any, attempts: Any, *rest: Any, **options: Any) -> Any:
        return original(policies, (), *rest, **options)

    return retrial_after


BROKEN: Mapping[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "undo-again": ("a member is compensated twice", compensation, "undone_members", undoes_again),
    "undo-forward": (
        "tasks are compensated in the order of their completion",
        phases,
        "add_compensations",
        undoes_forward,
    ),
    "end-early": ("a phase of a run's end does not wait for all groups", phases, "_has_ended", joins_again),
    "stop-all": ("a stop of a run reaches its compensations and `finally`", actor, "halts", halts_all),
    "retrier-budget": (
        "attempts do not count against the budgets of retriers",
        retries,
        "retrial_after",
        forgets_attempts,
    ),
}
"""By name: the wrong behaviour, the module and its function that is replaced, and what makes the replacement."""
