"""Breaks the work outside of workers on purpose: see `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anabranch_taskgroup.owner import offers
from anabranch_taskgroup.session import suspects
from anabranch_taskgroup.worker.executors.programs import executor
from anabranch_taskgroup.worker.executors.programs.orphans import Orphans


def _has_none(original: Callable[..., Any]) -> Callable[..., Any]:
    """An offer has no handle of the work that runs."""
    return lambda task, chunk: {}


def _by_delivery(original: Callable[..., Any]) -> Callable[..., Any]:
    """Work has another name in each delivery of its chunk."""

    def name(installation: str, offer: Any, identity: Mapping[str, Any]) -> str:
        return f"{original(installation, offer, identity)}-{offer.chunk}-{offer.fence}"

    return name


def _asks_nobody(original: Callable[..., Any]) -> Callable[..., Any]:
    """A worker that finds work without a member does not ask its owner."""
    return lambda self, engine, works: None


def _suspects(original: Callable[..., Any]) -> Callable[..., Any]:
    """The death of a worker counts for members whose work runs outside of it."""
    return lambda task, chunk: False


Broken = tuple[str, Any, str, Callable[..., Any], tuple[str, ...]]
"""What is broken, the function that is replaced, and the faults."""
_KILLS = ("kill",)
BROKEN: Mapping[str, Broken] = {
    "work-again": ("the next worker starts the work of a member again", offers, "handles_for", _has_none, _KILLS),
    "work-left": ("work goes on that no member needs", Orphans, "_ask", _asks_nobody, _KILLS),
    "work-suspected": (
        "a member whose work runs outside is suspected of killing its worker",
        suspects,
        "_keeps_outside",
        _suspects,
        _KILLS,
    ),
}
"""By name: what is broken, and the function that is replaced."""
ALSO: Mapping[str, Broken] = {
    "work-again": ("work has another name in each delivery", executor, "execution_name", _by_delivery, ()),
}
"""What would otherwise make up for a mutation."""
