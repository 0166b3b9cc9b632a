"""Finds tasks of which at most one can complete, so that they may produce the same key without a policy. Pure.

Two tasks exclude each other if what has to be true for the one to complete contradicts that of the other:
different cases of one switch, conditions that cannot both be true, or a task that failed and completed. Of a task,
everything that it requires has to be true as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

from anabranch.core.conditions import Exclusions

if TYPE_CHECKING:
    from anabranch.core.request.flow_links import Link
    from anabranch.core.request.outline import TaskOutline

MAX_PRODUCERS = 1_000
"""Maximum tasks that may produce one key without a policy: each two of them are compared."""
MAX_CONDITIONS = 20
"""Maximum conditions of a task that are compared."""


@dataclass(slots=True)
class _Facts:
    """What is true if a task completes: the cases of switches, conditions, and which tasks completed or failed."""

    cases: dict[int, int] = field(default_factory=dict)
    conditions: list[Any] = field(default_factory=list)
    completed: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)

    def contradict(self, other: _Facts, proofs: Exclusions) -> bool:
        if any(other.cases.get(switch, case) != case for switch, case in self.cases.items()):
            return True
        if not (self.failed.isdisjoint(other.completed) and self.completed.isdisjoint(other.failed)):
            return True
        return any(proofs.exclusive(one, another) for one in self.conditions for another in other.conditions)


class Exclusion:
    """Compares the tasks of one request."""

    def __init__(
        self,
        tasks: Sequence[TaskOutline],
        targets: Sequence[Sequence[Link]],
        declared_by: Callable[[str, int], tuple[int, ...]],
    ) -> None:
        self._tasks = tasks
        self._targets = targets
        self._declared_by = declared_by
        self._known: dict[int, _Facts] = {}
        self._proofs = Exclusions()

    def of_all(self, indexes: Sequence[int]) -> bool:
        """True if at most one of these tasks can complete."""
        if len(indexes) > MAX_PRODUCERS:
            return False
        facts = [self._facts(index) for index in indexes]
        return all(one.contradict(other, self._proofs) for one, other in combinations(facts, 2))

    def _facts(self, index: int) -> _Facts:
        if index not in self._known:
            self._known[index] = self._collect(index)
        return self._known[index]

    def _collect(self, index: int) -> _Facts:
        """The facts of a task and of all that it requires; a queue, as chains may be long."""
        found = _Facts()
        waiting = [index]
        while waiting:
            at = waiting.pop()
            if at not in found.completed:
                found.completed.add(at)
                waiting += self._required(at, found)
        return found

    def _required(self, at: int, found: _Facts) -> list[int]:
        """The tasks that have to complete for a task to begin; adds its other facts."""
        task = self._tasks[at]
        required: list[int] = []
        for want in task.wants:
            if not want.optional:
                self._require(want.key, at, required, found)
        flow = task.flow
        if flow is None:
            return required
        required += [link.task for link in self._targets[at] if link.mode == "completed"]
        if flow.branch is not None:
            self._choose(at, found)
        if flow.when is not None and len(found.conditions) < MAX_CONDITIONS:
            found.conditions.append(flow.when)
            for field_read in flow.fields:
                # The condition cannot be true if the key is absent: its producer failed.
                absent = {"field": field_read.text, "operator": "not_exists"}
                if self._proofs.exclusive(flow.when, absent):
                    self._require(field_read.text, at, required, found)
        return required

    def _require(self, key: str, at: int, required: list[int], found: _Facts) -> None:
        producers = self._declared_by(key, at)
        if len(producers) != 1:
            return
        flow = self._tasks[producers[0]].flow
        if flow is not None and flow.error_key is not None and flow.error_key.text == key:
            found.failed.add(producers[0])
            found.conditions.append({"field": key, "operator": "exists"})
        else:
            required.append(producers[0])

    def _choose(self, at: int, found: _Facts) -> None:
        """Add the case of the task's branch, and the conditions by which the switch chooses it."""
        flow = self._tasks[at].flow
        assert flow is not None
        assert flow.branch is not None
        switch = next((link.task for link in self._targets[at] if link.label == flow.branch.switch[:2]), None)
        if switch is None:
            return
        found.cases.setdefault(switch, flow.branch.case)
        chosen = self._tasks[switch].flow
        cases = chosen.cases if chosen is not None else ()
        own = flow.branch.case
        held = [*cases[own : own + 1], *({"not": case} for case in cases[:own] if case is not None)]
        room = max(MAX_CONDITIONS - len(found.conditions), 0)
        found.conditions += [case for case in held if case is not None][:room]
