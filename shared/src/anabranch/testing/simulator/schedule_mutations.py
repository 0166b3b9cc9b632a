"""Breaks the owner of schedules on purpose: see `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anabranch_agency.run import schedules


def _stops(original: Callable[..., Any]) -> Callable[..., Any]:
    """The end of a run starts none of the firings that wait for it."""
    return lambda turn, state: False if state.fired or state.history else original(turn, state)


def _sleeps(original: Callable[..., Any]) -> Callable[..., Any]:
    """A schedule has no timer."""
    return lambda *given: None


def _hurries(original: Callable[..., Any]) -> Callable[..., Any]:
    """A firing starts half a minute early."""
    return lambda turn, state, now: original(turn, state, now + 30.0)


BROKEN: Mapping[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "firing-waits": ("firings that wait for an earlier one are forgotten", schedules, "go_on", _stops),
    "no-schedule-timer": ("a schedule has no timer", schedules, "_arm", _sleeps),
    "early-firing": ("firings start before their time", schedules, "_fire_due", _hurries),
}
"""By name: what is broken, and the function that is replaced."""
