"""Puts tasks into a pool of workers, and floods workers with chunks of a high level beside those of a low one.

For the odd seeds that have levels. Outcomes stay the same. A member of a pool must not run outside of it, and of
16 chunks that a worker begins at least one is of the lowest level that has any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

from anabranch.core.lanes import DEFAULT_POOL, number_of
from anabranch.ports import TopicSpec
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.topics import topic_specs
from anabranch.testing.simulator.ordered import is_ordered, lacks_levels

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected

POOL = "gpu"
WORKER = "taskgroup-1"
"""The process whose worker belongs to the pool."""
GROUP = "flood"
MOST_PASSED = 15
"""Chunks of other levels that may begin in a row while the lowest level has some."""

SettingsOf = Callable[[str, int], Settings]


def has_pools(seed: str) -> bool:
    """True if a seed has a pool of workers."""
    return is_ordered(seed) and int(seed) % 2 == 1


def add_pools(seed: str, number: int, expected: Expected) -> None:
    """Put some tasks of a request into the pool, and add two tasks whose levels compete for workers."""
    random = Random(f"pools {seed} {number}")
    groups = expected.request["task_groups"]
    if random.random() < 0.6:
        groups.append(
            {"name": GROUP, "tasks": [_wide(random, "f0", "urgent", 60), _wide(random, "f1", "low", 12)]}
        )
    for group in groups:
        for task in group["tasks"]:
            if random.random() < 0.4:
                task["pool"] = POOL


def _wide(random: Random, name: str, priority: str, members: int) -> dict[str, Any]:
    config = {"type": "array", "array_mapping": {"each": list(range(members))}, "output_format": "index"}
    return {
        "name": name,
        "agent": "work",
        "result_keys": [f"k{name}"],
        "dependencies": [],
        "optional_dependencies": [],
        "max_deliveries": 100,
        "priority": priority,
        "inputs": {"deps": [], "item": "{each}", "seconds": random.choice((0.05, 0.2))},
        "expansion_config": config,
    }


def pooling(seed: str, settings_of: SettingsOf) -> SettingsOf:
    """The settings of processes: those of one worker have the pool."""
    if not has_pools(seed):
        return settings_of
    return lambda process, number: replace(settings_of(process, number), pool=_pool_of(process))


def _pool_of(process: str) -> str:
    return POOL if process == WORKER else DEFAULT_POOL


def specs_of(seed: str, settings: Settings) -> Sequence[TopicSpec]:
    """The topics of a seed, with those of its pool."""
    created = replace(settings, create_topics=lacks_levels(seed))  # else those of all levels are among them
    return topic_specs(replace(created, pool=POOL) if has_pools(seed) else created)


def wrong_pool(seed: str, process: str, task: Any, expected: Expected | None) -> str | None:
    """What is wrong with a call of an agent in a process: its task is of another pool."""
    if expected is None or not has_pools(seed):
        return None
    groups = {group["name"]: group["tasks"] for group in expected.request["task_groups"]}
    pools = [
        each.get("pool", DEFAULT_POOL) for each in groups.get(task.group, ()) if each["name"] == task.task_name
    ]
    if pools in ([], [_pool_of(process)]):
        return None
    return (
        f"{process} of the pool {_pool_of(process)} called {task.name} of {task.run_id}, whose pool is {pools[0]}"
    )


class LevelWatch:
    """Observes the chunks that one worker begins, by its queue of offers. Reads private state of the service:
    which offers wait is not visible otherwise."""

    def __init__(self, process: str, service: Any, report: Callable[[str], None]) -> None:
        self._process, self._report = process, report
        queue = self._queue = service._offer_consumer.queue
        self._pop, self._may_overtake = queue.pop, queue.may_overtake
        queue.pop, queue.may_overtake = self._popped, self._asked
        self._lowest: int | None = None
        self._passed = 0

    def _popped(self) -> Any:
        waiting = list(self._queue._waiting)
        found = self._pop()
        priority = found.lane.priority if found.offered is None else found.offered.offer.priority
        self._begun(priority, waiting)
        return found

    def _asked(self, priority: str, *rest: Any) -> Any:
        waiting = list(self._queue._waiting)
        may_begin = self._may_overtake(priority, *rest)
        if may_begin:
            self._begun(priority, waiting)
        return may_begin

    def _begun(self, priority: Any, waiting: Sequence[Any]) -> None:
        lowest = min(map(number_of, waiting), default=None)
        is_other = lowest is not None and number_of(priority) != lowest
        self._passed = (self._passed if lowest == self._lowest else 0) + 1 if is_other else 0
        self._lowest = lowest
        if self._passed > MOST_PASSED:
            self._report(
                f"{self._process} began {self._passed} chunks of other levels while level {lowest} waited"
            )
