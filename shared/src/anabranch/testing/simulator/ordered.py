"""Gives random requests levels of priority and fairness keys. Outcomes stay the same: only the order changes.

For seeds from `ORDERED_FROM` on. In half of them, owners create the topics of levels, and workers join their
groups, while the runs are under way; in the others, and in all other simulations, these topics exist from the
start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import Any

from anabranch.core.lanes import PRIORITIES
from anabranch_taskgroup.owner import offer_router
from anabranch_taskgroup.worker import offer_consumer

ORDERED_FROM, ORDERED_UNTIL = 9_200_000, 9_300_000
SHARE, TASK_SHARE = 0.8, 0.3


def is_ordered(seed: str) -> bool:
    """True if requests of a seed have levels and keys."""
    return seed.isdigit() and ORDERED_FROM <= int(seed) < ORDERED_UNTIL


def lacks_levels(seed: str) -> bool:
    """True if the topics of levels are created once a level is in use."""
    return is_ordered(seed) and int(seed) % 4 >= 2


@contextmanager
def quick_levels(seed: str) -> Iterator[None]:
    """Have levels come into use within the few seconds of a simulation, in some before any worker reads them."""
    if not lacks_levels(seed):
        yield
        return
    before = offer_consumer.LEVELS_SECONDS, offer_router.SPLIT_SECONDS, offer_router.READERS_SECONDS
    random = Random(f"{seed} levels")
    offer_consumer.LEVELS_SECONDS = offer_router.SPLIT_SECONDS = random.choice((0.5, 2.0))
    offer_router.READERS_SECONDS = random.choice((0.0, 0.0, 2.0))
    try:
        yield
    finally:
        offer_consumer.LEVELS_SECONDS, offer_router.SPLIT_SECONDS, offer_router.READERS_SECONDS = before


def add_order(random: Random, request: dict[str, Any]) -> None:
    """Give a request, and some of its tasks, a level and a key."""
    if random.random() < SHARE:
        request["priority"] = random.choice((*PRIORITIES, 1, 5))
        request["fairness_key"] = random.choice("abc")
    for group in request["task_groups"]:
        for task in group["tasks"]:
            if random.random() < TASK_SHARE:
                task["priority"] = random.choice(PRIORITIES)
                task["fairness_key"] = random.choice("abc")
