"""Adds agents that spend, budgets and a cache to random requests, and checks the sums at each record.

For seeds from `SPENDING_FROM` on. The budgets are so tight that members wait for what others give back, and so
wide that all of them run in the end: what is not given back leaves its run open, or fails it. Few values are
cached for all runs, so a member with the key of another one has a wrong value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

import orjson

from anabranch.core.costs import NO_COSTS, nanos_of
from anabranch.core.names import Names
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.messages import Fragment, Snapshot
from anabranch.ports import Incoming
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.budget_state import Amounts, plus
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.spending import costs_of
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import DecisionConfig

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected

SPENDING_FROM, SPENDING_UNTIL = 9_600_000, 9_700_000
GROUP = "spending"
PRICE = 0.01
ESTIMATE = 1.0


def has_spending(seed: str) -> bool:
    """True if agents of a seed spend."""
    return seed.isdigit() and SPENDING_FROM <= int(seed) < SPENDING_UNTIL


def add_spending(seed: str, number: int, expected: Expected) -> None:
    """Add a group of tasks that spend, with a budget and perhaps a cache."""
    random = Random(f"spending {seed} {number}")
    request = expected.request
    tasks = []
    for index in range(random.randint(1, 4)):
        items = [random.randrange(4) for _ in range(random.choice((1, 3, 12, 40)))]
        task: dict[str, Any] = {
            "name": f"s{index}",
            "agent": "work",
            "result_keys": [f"spent{index}"],
            "dependencies": [],
            "optional_dependencies": [],
            "inputs": {"deps": [], "usd": PRICE, "item": "{each}", "gives": "{each}"},
            "expansion_config": {"type": "array", "array_mapping": {"each": items}, "output_format": "index"},
            "estimate": {"usd": ESTIMATE},
        }
        if random.random() < 0.5:
            task["inputs"]["seconds"] = random.choice((0.01, 0.2))
        if random.random() < 0.3:
            task["max_concurrency"] = random.randint(1, 5)
        if random.random() < 0.6:
            task["cache"] = {
                "ttl": random.choice((5, 3_600)),
                "scope": random.choice(("project", "session", "run")),
            }
        tasks.append(task)
    # Between two and ten members at a time, and enough for each attempt of all of them.
    budget = {"usd": round(ESTIMATE * random.uniform(3, 9) + 5, 3)}
    group: dict[str, Any] = {"name": GROUP, "tasks": tasks}
    if random.random() < 0.5:
        group["budget"] = budget
    else:
        request["budget"] = budget
        for task in [task for each in request["task_groups"] for task in each["tasks"] if "agent" in task]:
            task.setdefault("estimate", {"usd": 0.001})
    request["task_groups"].append(group)


class SpendingCheck:
    """Folds the records of sessions apart from the services, and checks the budgets after each; compares the costs
    in final records with the calls of agents."""

    def __init__(self, names: Names, report: Callable[[str], None], is_on: bool) -> None:
        self._names, self._report, self._is_on = names, report, is_on
        self._config = DecisionConfig(names)
        self._states: dict[int, PartitionState] = {}
        self._lost: set[int] = set()
        """Partitions of which a message was cut into fragments: they are not folded any more."""
        self._calls: dict[str, int] = {}

    def called(self, task: Any) -> None:
        """Observe a call of an agent."""
        if self._is_on and task.group == GROUP:
            self._calls[task.run_id] = self._calls.get(task.run_id, 0) + 1

    def appended(self, record: Incoming) -> None:
        """Observe a record that was appended to the log."""
        if not self._is_on:
            return
        if record.topic == self._names.results:
            self._check_final(record)
        elif record.topic == self._names.groups and record.partition not in self._lost:
            self._fold(record)

    def _fold(self, record: Incoming) -> None:
        decoded = GROUPS.decode(record.value)
        if isinstance(decoded.message, Fragment):
            self._lost.add(record.partition)
        if isinstance(decoded.message, (Fragment, Snapshot)):
            return
        state = self._states.setdefault(record.partition, PartitionState(record.partition))
        delivery = DeliveredMessage(decoded.message, decoded.segments, record.offset, record.timestamp)
        decide(self._config, state, delivery)
        run = state.runs.get(getattr(decoded.message, "run_id", ""))
        for problem in _problems(run) if run is not None and run.has_budgets else ():
            self._report(f"run {run.run_id if run else ''}: {problem}")

    def _check_final(self, record: Incoming) -> None:
        body = orjson.loads(record.value)
        if "costs" not in body:
            return
        calls = self._calls.get(body["run_id"], 0)
        if nanos_of(body["costs"]["usd"]) > calls * nanos_of(PRICE):
            self._report(f"run {body['run_id']} cost {body['costs']['usd']}, and {calls} calls spent {PRICE} each")


def _problems(run: Run) -> Iterator[str]:
    for group in run.groups.values():
        tasks = list(group.tasks.values())
        yield from _of_budget(f"group {group.name}", group.budget, [] if group.is_ending else tasks)
    tasks = [task for group in run.groups.values() if not group.is_ending for task in group.tasks.values()]
    yield from _of_budget("the run", run.budget, tasks)


def _of_budget(whose: str, budget: Any, tasks: list[Task]) -> Iterator[str]:
    if budget is None:
        return
    spent, reserved = _total([task.charged for task in tasks]), _total([task.counted for task in tasks])
    if (budget.spent, budget.reserved) != (spent, reserved):
        yield f"{whose} has spent {budget.spent} and reserved {budget.reserved}, its tasks {spent} and {reserved}"
    held = _total([chunk.reserved for task in tasks for chunk in task.chunks.values()])
    if held != reserved:
        yield f"{whose} has reserved {reserved}, its open chunks {held}"
    if any(costs_of(task) != task.charged for task in tasks if task.is_over):
        yield f"{whose} was not charged for a task that ended"
    limit = budget.limit[0]
    if limit is not None and spent[0] + reserved[0] > limit:
        yield f"{whose} has spent {spent[0]} and reserved {reserved[0]} of {limit}"


def _total(amounts: list[Any]) -> Amounts:
    total: Amounts = NO_COSTS
    for each in amounts:
        total = plus(total, each)
    return total
