"""Checks budgets at each record, and the costs in final records against the calls of agents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson

from anabranch.core.costs import NO_COSTS, nanos_of
from anabranch.core.names import Names
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.messages import Fragment, Snapshot
from anabranch.ports import Incoming
from anabranch.testing.simulator.spending import ESTIMATE, GROUP
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.budget_state import Amounts, plus
from anabranch_taskgroup.session.budgets import EXCEEDED
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.spending import costs_of
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import DecisionConfig

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected

Member = tuple[str, int]
"""Task and index."""


class SpendingCheck:
    """Folds the records of sessions apart from the services, and checks the budgets after each; compares the costs
    in final records with the calls of agents."""

    def __init__(
        self,
        names: Names,
        report: Callable[[str], None],
        expected_of: Callable[[str], Expected | None],
        *,
        is_on: bool,
    ) -> None:
        self._names, self._report, self._is_on = names, report, is_on
        self._expected_of = expected_of
        self._config = DecisionConfig(names)
        self._states: dict[int, PartitionState] = {}
        self._lost: set[int] = set()
        """Partitions of which a message was cut into fragments: they are not folded any more."""
        self._spent: dict[str, float] = {}
        """What agents have spent, by run, in dollars."""
        self._startable: dict[str, set[Member]] = {}
        """By run whose budget is used up: the members that may still be called."""

    def called(self, task: Any) -> None:
        """Observe a call of an agent."""
        if not self._is_on or task.group != GROUP:
            return
        self._spent[task.run_id] = self._spent.get(task.run_id, 0.0) + task.inputs["usd"]
        member = (task.task_name, task.index or 0)
        if member not in self._startable.get(task.run_id, {member}):
            self._report(f"{task.name} of {task.run_id} started after the budget was used up")

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
        if run is None or not run.has_budgets:
            return
        expected = self._expected_of(run.run_id)
        is_tight = expected is not None and _is_tight(expected)
        for problem in _problems(run, is_tight=is_tight):
            self._report(f"run {run.run_id}: {problem}")
        if is_tight and run.run_id not in self._startable and _is_used_up(run):
            self._startable[run.run_id] = _offered(run.groups[GROUP])

    def _check_final(self, record: Incoming) -> None:
        body = orjson.loads(record.value)
        if "costs" not in body:
            return
        spent, expected = self._spent.get(body["run_id"], 0.0), self._expected_of(body["run_id"])
        if nanos_of(body["costs"]["usd"]) > nanos_of(round(spent, 9)):
            self._report(f"run {body['run_id']} cost {body['costs']['usd']}, and its calls spent {spent:g}")
        if expected is None or not expected.uses_up:
            return
        told = [each for each in body["failures"] if each["error_type"] == EXCEEDED]
        # One failure says that the budget is used up; each task that it kept from its members has one besides.
        again = len(told) - len({(each["group"], each["task"]) for each in told})
        if body["status"] != "failed" or not told or again > 1:
            self._report(f"run {body['run_id']} ended {body['status']}, and its budget was told: {told[:5]}")


def _is_tight(expected: Expected) -> bool:
    """True if a member spends as much as it is expected to."""
    group = expected.request["task_groups"][-1]
    return bool(group["name"] == GROUP and group["tasks"][0]["inputs"]["usd"] == ESTIMATE)


def _is_used_up(run: Run) -> bool:
    """True if a budget of the group lets no further member start."""
    for budget in (run.groups[GROUP].budget if GROUP in run.groups else None, run.budget):
        if budget is not None and budget.limit[0] is not None and budget.spent[0] >= budget.limit[0]:
            return True
    return False


def _offered(group: Group) -> set[Member]:
    """The members of a group that were offered or have ended."""
    found: set[Member] = set()
    for task in group.tasks.values():
        spans = [*task.completed, *chain.from_iterable(chunk.pending for chunk in task.chunks.values())]
        indexes = chain(task.failed, chain.from_iterable(range(*span) for span in spans))
        found |= {(task.name, index) for index in indexes}
    return found


def _problems(run: Run, *, is_tight: bool) -> Iterator[str]:
    for group in run.groups.values():
        tasks = list(group.tasks.values())
        yield from _of_budget(f"group {group.name}", group.budget, [] if group.is_ending else tasks, is_tight)
    tasks = [task for group in run.groups.values() if not group.is_ending for task in group.tasks.values()]
    yield from _of_budget("the run", run.budget, tasks, is_tight)


def _of_budget(whose: str, budget: Any, tasks: list[Task], is_tight: bool) -> Iterator[str]:
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
    # Where members spend all that is expected, another attempt of one spends more.
    if not is_tight and limit is not None and spent[0] + reserved[0] > limit:
        yield f"{whose} has spent {spent[0]} and reserved {reserved[0]} of {limit}"


def _total(amounts: list[Any]) -> Amounts:
    total: Amounts = NO_COSTS
    for each in amounts:
        total = plus(total, each)
    return total
