"""Breaks the order of work on purpose: see `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anabranch.core.lanes import Lane, number_of
from anabranch_taskgroup.worker import offer_consumer
from anabranch_taskgroup.worker.level_turns import LevelTurns
from anabranch_taskgroup.worker.offer_consumer import OfferConsumer
from anabranch_taskgroup.worker.offer_queue import OfferQueue


def _only_usual(original: Callable[..., Any]) -> Callable[..., Any]:
    """A worker reads only the topic of the usual level."""
    return lambda pool: [Lane(pool)]


def _takes_all_as_repeated(original: Callable[..., Any]) -> Callable[..., Any]:
    """Each offer of another level than the usual one counts as a repetition of one in the queue."""

    def push(self: Any, queued: Any) -> bool:
        return queued.lane.priority == "normal" and bool(original(self, queued))

    return push


def _highest(original: Callable[..., Any]) -> Callable[..., Any]:
    """The highest level is always next."""
    return lambda self, waiting: max(waiting, key=number_of)


def _of_all_pools(original: Callable[..., Any]) -> Callable[..., Any]:
    """Each worker reads the topics of another pool besides."""
    return lambda pool: [*original(pool), *(each for each in original("gpu") if pool != "gpu")]


def _does_not_look(original: Callable[..., Any]) -> Callable[..., Any]:
    """A worker reads the topics that exist at its start."""

    async def levels_loop(self: Any) -> None:
        return

    return levels_loop


BROKEN: Mapping[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "level-unread": ("workers read only the topic of the usual level", offer_consumer, "lanes_of", _only_usual),
    "level-starved": ("a low level waits for all of a high one", LevelTurns, "following", _highest),
    "pool-open": ("workers run members of another pool", offer_consumer, "lanes_of", _of_all_pools),
    "level-unfound": (
        "workers do not find topics of levels that are created later",
        OfferConsumer,
        "_levels_loop",
        _does_not_look,
    ),
    "level-dropped": ("workers drop the offers of other levels", OfferQueue, "push", _takes_all_as_repeated),
}
"""By name: what is broken, and the function that is replaced."""
