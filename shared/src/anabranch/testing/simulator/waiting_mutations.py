"""Breaks waits and signals on purpose: see `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anabranch_agency.run.early_signals import EarlySignals
from anabranch_taskgroup.session import wait_state
from anabranch_taskgroup.session.steps import wait_signals


def _drops(original: Callable[..., Any]) -> Callable[..., Any]:
    """Accept a signal, and keep it nowhere."""
    return lambda *signal: True


def _counts_again(original: Callable[..., Any]) -> Callable[..., Any]:
    """Take each signal for a new one."""
    return lambda signals, signal_id: True


def _ends_again(original: Callable[..., Any]) -> Callable[..., Any]:
    """Take members that have ended for members that wait."""
    return lambda waits, start, stop: ((start, stop),)


BROKEN: Mapping[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "early-signal": ("a signal before its run is dropped", EarlySignals, "keep", _drops),
    "kept-signal": ("a signal before its wait is dropped", wait_signals, "keep", _drops),
    "signal-again": ("a signal that is sent again counts again", wait_state.Signals, "note", _counts_again),
    "wait-again": ("a wait that has ended ends again", wait_state.OpenWaits, "open_in", _ends_again),
}
"""By name: what is broken, and the function that is replaced."""
