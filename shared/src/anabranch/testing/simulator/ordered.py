"""Gives random requests levels of priority and fairness keys. Outcomes stay the same: only the order changes.

For seeds from `ORDERED_FROM` on.
"""

from __future__ import annotations

from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import Any

from anabranch.core.lanes import PRIORITIES

ORDERED_FROM, ORDERED_UNTIL = 9_200_000, 9_300_000
SHARE, TASK_SHARE = 0.8, 0.3


def is_ordered(seed: str) -> bool:
    """True if requests of a seed have levels and keys."""
    return seed.isdigit() and ORDERED_FROM <= int(seed) < ORDERED_UNTIL


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
