"""Breaks the owner of events on purpose: see `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anabranch_agency.run import event_matching, events
from anabranch_agency.run.state import PartitionState


def _gives_nothing(original: Callable[..., Any]) -> Callable[..., Any]:
    """A wait gets none of the events that were published before it opened."""
    return lambda *given: None


def _is_new(original: Callable[..., Any]) -> Callable[..., Any]:
    """Each publication is an event of its own."""
    return lambda *given: False


def _forgets_who_has_it(original: Callable[..., Any]) -> Callable[..., Any]:
    """The owner forgets that a run has got an event, and gives it to the next wait of the run."""

    def give(turn: Any, address: Any, event: Any, queue: Any, place: Any, wait: Any) -> None:
        original(turn, address, event, queue, place, wait)
        event.given.discard(place[0])

    return give


BROKEN: Mapping[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "early-event": ("an event before its wait is dropped", events, "offer_kept", _gives_nothing),
    "event-again": ("an event that is published again is another one", PartitionState, "is_known_event", _is_new),
    "event-twice": ("an event is delivered twice to a run", event_matching, "_give", _forgets_who_has_it),
}
"""By name: what is broken, and the function that is replaced."""
