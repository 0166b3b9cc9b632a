"""Broken mechanisms of loops, for `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anabranch_taskgroup.session import loop_iterations
from anabranch_taskgroup.session.steps import loop


def counts_once(original: Callable[..., Any]) -> Callable[..., Any]:
    """The first iteration of a loop is not counted."""
    known: set[tuple[str, str]] = set()

    def commit(turn: Any, step: Any) -> None:
        original(turn, step)
        place = (step.run.run_id, step.task.name)
        if place not in known:
            known.add(place)
            step.task.loop.number -= 1

    return commit


def keeps_values(original: Callable[..., Any]) -> Callable[..., Any]:
    """An iteration begins with the values of the one before."""

    def commit(turn: Any, step: Any) -> None:
        values = dict(step.task.loop.values)
        original(turn, step)
        step.task.loop.values = values

    return commit


def numbers_from_zero(original: Callable[..., Any]) -> Callable[..., Any]:
    """The chunks of each iteration are numbered from 0."""

    def renew(*given: Any) -> Any:
        started = original(*given)
        for task in started:
            task.chunk_count = task.first_chunk = 0
        return started

    return renew


BROKEN: Mapping[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "iteration-again": ("an iteration of a loop starts twice", loop, "commit_iteration", counts_once),
    "iteration-values": (
        "an iteration of a loop sees the values of the one before",
        loop,
        "commit_iteration",
        keeps_values,
    ),
    "iteration-chunks": (
        "chunks of an iteration have the numbers of those before",
        loop_iterations,
        "renew_body",
        numbers_from_zero,
    ),
}
"""By name: the wrong behaviour, the module and its function that is replaced, and what makes the replacement."""
