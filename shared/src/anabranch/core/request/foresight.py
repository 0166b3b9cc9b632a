"""Says before a run which of its tasks will be skipped, as far as the context of the request decides it. Pure.

Failures are left out of account: what is certain is so if no task fails. A condition over results is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anabranch.core.conditions import outcome
from anabranch.core.errors import ConditionError
from anabranch.core.names import leading_keys

if TYPE_CHECKING:
    from anabranch.core.request.graph import Dependency
    from anabranch.core.request.planning import Plan, PlannedTask


@dataclass(slots=True)
class Foresight:
    """What is known of the tasks of a plan, by their indexes.

    Attributes:
        will_skip: True or False where it is certain; None if it is not known.
        chosen: the case that a switch will choose, -1 for none; missing if it is not known.
        errors: the reasons of conditions that cannot be evaluated, so that their tasks will fail.
    """

    will_skip: list[bool | None]
    chosen: dict[int, int] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)


def foresee(plan: Plan) -> Foresight:
    """Everything that is known of the tasks of a plan."""
    found = Foresight([None] * len(plan.tasks))
    view = _View(plan, found)
    for index in sorted(range(len(plan.tasks)), key=lambda each: plan.tasks[each].level):
        found.will_skip[index] = view.will_skip(index)
    return found


class _View:
    """The tasks of a plan whose dependencies have been looked at before."""

    def __init__(self, plan: Plan, found: Foresight) -> None:
        self._plan = plan
        self._found = found
        self._context = plan.visible_context()
        self._indexes = {(task.group, task.name): index for index, task in enumerate(plan.tasks)}

    def will_skip(self, index: int) -> bool | None:
        task = self._plan.tasks[index]
        known = [self._by_branch(task), self._by_loop(index), *(self._by_need(need, index) for need in task.needs)]
        if True in known:
            return True
        is_certain = None not in known
        if task.spec.when is not None:
            holds = self._outcome(task.spec.when, index)
            if holds is not True:
                return None if holds is None or not is_certain else not self._has_error(index)
        if is_certain and task.spec.switch is not None:
            self._choose(index, task.spec.switch.cases, has_default=task.spec.switch.has_default)
        return False if is_certain else None

    def _has_error(self, index: int) -> bool:
        return index in self._found.errors

    def _by_branch(self, task: PlannedTask) -> bool | None:
        if task.branch is None:
            return False
        chosen = self._found.chosen.get(self._indexes[task.branch.switch])
        return None if chosen is None else chosen != task.branch.case

    def _by_loop(self, index: int) -> bool | None:
        """A task of a body is skipped with its loop; otherwise each iteration decides."""
        loops = self._plan.flow.loops[index] if self._plan.flow is not None else ()
        return (self._found.will_skip[loops[0]] or None) if loops else False

    def _by_need(self, need: Dependency, index: int) -> bool | None:
        if need.optional or need.kind not in ("produced", "task"):
            return False
        return self._is_absent(need, index)

    def _is_absent(self, need: Dependency, index: int) -> bool | None:
        """True if no task will give a key, False if one will, unless it fails."""
        if need.kind == "task":
            assert need.producer is not None
            return self._found.will_skip[self._indexes[need.producer]]
        producers = self._plan.flow.producers_of(need.key, index) if self._plan.flow is not None else ()
        states = [self._found.will_skip[producer] for producer in producers]
        if False in states:
            return False
        return None if None in states else True

    def _outcome(self, condition: Any, index: int) -> bool | None:
        needs = {need.key: need for need in self._plan.tasks[index].needs}

        def is_unknown(path: str) -> bool:
            need = next((needs[key] for key in leading_keys(path) if key in needs), None)
            if need is None:
                return True  # a name of a loop, or of the run
            if need.kind == "produced":
                return self._is_absent(need, index) is not True
            return need.kind in ("session", "external")

        try:
            return outcome(condition, self._known(needs), is_unknown)
        except ConditionError as error:
            self._found.errors[index] = str(error)
            return False

    def _known(self, needs: Mapping[str, Dependency]) -> Mapping[str, Any]:
        return {key: self._context[key] for key, need in needs.items() if need.kind == "context"}

    def _choose(self, index: int, cases: Sequence[Any], *, has_default: bool) -> None:
        for number, case in enumerate(cases):
            holds = self._outcome(case, index)
            if holds is None or index in self._found.errors:
                return
            if holds:
                self._found.chosen[index] = number
                return
        self._found.chosen[index] = len(cases) if has_default else -1
