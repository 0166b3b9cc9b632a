"""Breaks the owners of limits, and those who hold them, on purpose: see `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anabranch.core.limit_addresses import ALL_PROJECTS, limit_address
from anabranch.core.wire.messages import HoldLimit
from anabranch_agency.run import actor, breakers
from anabranch_agency.run.limit_state import LimitAddress
from anabranch_taskgroup.session import endings, limit_keys, limits


def _does_nothing(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: None


def _forgets_what_is_held(original: Callable[..., Any]) -> Callable[..., Any]:
    """A holder that repeats its wish is another one."""

    def hold(self: Any, place: Any, holding: Any) -> None:
        original(self, place, holding)
        self.held -= 1

    return hold


def _of_the_agent(original: Callable[..., Any]) -> Callable[..., Any]:
    """What is configured for a project and for its agent has one address."""
    return lambda project, kind: limit_address(ALL_PROJECTS, kind, "work")


def _ignores_holds(original: Callable[..., Any]) -> Callable[..., Any]:
    """The owner of a limit goes on although a member had all of its key wait."""

    def decide(turn: Any, delivery: Any) -> None:
        if not isinstance(delivery.message, HoldLimit):
            original(turn, delivery)

    return decide


def _never(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: False


BROKEN: Mapping[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "grant-kept": ("a chunk that ended keeps its place", limits, "_give_back", _does_nothing),
    "limit-over": ("one member more than allowed holds a key", LimitAddress, "hold", _forgets_what_is_held),
    "wish-kept": ("a task that ends keeps its places and wishes", endings, "return_all", _does_nothing),
    "limit-mixed": (
        "the limits of a project are those of its agent",
        limit_keys,
        "project_address",
        _of_the_agent,
    ),
    "hold-ignored": ("a key is granted although a member had it wait", actor, "decide_limit", _ignores_holds),
    "breaker-deaf": ("a breaker does not open", breakers, "_is_broken", _never),
    "rate-stuck": ("no timer grants what a rate allows later", actor, "limit_due", _does_nothing),
}
"""By name: what is broken, and the function that is replaced."""
