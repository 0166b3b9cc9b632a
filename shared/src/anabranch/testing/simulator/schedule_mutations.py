"""Breaks the owner of schedules on purpose: see `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anabranch_agency.run import actor, firings, schedules


def _stops(original: Callable[..., Any]) -> Callable[..., Any]:
    """The end of a run starts none of the firings that wait for it."""
    return lambda turn, state: False if state.fired or state.history else original(turn, state)


def _sleeps(original: Callable[..., Any]) -> Callable[..., Any]:
    """A schedule has no timer."""
    return lambda *given: None


def _hurries(original: Callable[..., Any]) -> Callable[..., Any]:
    """A firing starts half a minute early."""
    return lambda turn, state, now: original(turn, state, now + 30.0)


def _says_nothing(original: Callable[..., Any]) -> Callable[..., Any]:
    """A firing that does not become a run has no event."""
    return lambda *given: None


def _skips(original: Callable[..., Any]) -> Callable[..., Any]:
    """An owner that takes a schedule over from a snapshot leaves out the next firing."""

    def restore(turn: Any, snapshot: Any, state: Any, size: int) -> None:
        if state.next_at is not None:
            state.next_at = state.rules.rule.after(state.next_at)
        original(turn, snapshot, state, size)

    return restore


BROKEN: Mapping[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "firing-waits": ("firings that wait for an earlier one are forgotten", schedules, "go_on", _stops),
    "no-schedule-timer": ("a schedule has no timer", schedules, "_arm", _sleeps),
    "early-firing": ("firings start before their time", schedules, "_fire_due", _hurries),
    "firing-untold": ("a firing that is missed has no event", firings, "miss", _says_nothing),
    "firing-skipped": ("a takeover leaves out a firing", actor, "restore_schedule", _skips),
    "start-at-once": ("a run starts before its `not_before`", actor, "_held_until", _says_nothing),
}
"""By name: what is broken, and the function that is replaced."""
IN_TAKEOVERS = frozenset({"firing-skipped"})
"""Those that need a takeover from a snapshot."""
