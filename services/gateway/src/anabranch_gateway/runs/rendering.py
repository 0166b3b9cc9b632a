"""One member as its agent got it: its variables, message and inputs, rendered again from the request and the
values that are known; and its own part of the task's results. What is not known is null, never guessed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from anabranch.core.errors import AnabranchError
from anabranch.core.expansion.members import Member, member_name
from anabranch.core.request.graph import Dependency
from anabranch.core.request.member_counts import foresee
from anabranch.core.request.models import TaskSpec
from anabranch.core.templates import RenderBudget, RenderedTooLarge, member_scope, placeholders, render
from anabranch_gateway.runs.requests import Admitted


@dataclass(frozen=True, slots=True)
class MemberInputs:
    """What a member was given: `name` and `variables`, and the rendered templates, null where not known."""

    name: str
    variables: dict[str, Any] | None
    message: Any = None
    inputs: Any = None
    identifier: str | None = None

    def to_document(self) -> dict[str, Any]:
        return {"name": self.name, "variables": self.variables, "message": self.message, "inputs": self.inputs}


@dataclass(frozen=True, slots=True)
class AdmittedTask:
    """A task of an admitted request, by its place in the graph."""

    group: str
    spec: TaskSpec
    needs: Sequence[Dependency]
    array_keys: Mapping[str, str]


def task_of(admitted: Admitted, group: str, task: str) -> AdmittedTask | None:
    """The task of this name; None where the request has none."""
    for place, (name, spec) in enumerate(admitted.tasks):
        if name == group and spec.name == task:
            return AdmittedTask(group, spec, admitted.graph.needs[place], admitted.graph.array_keys[place])
    return None


def given(
    task: AdmittedTask, index: int | None, values: Mapping[str, Any], system: Mapping[str, Any]
) -> MemberInputs:
    """What a member got.

    Args:
        index: of an expanded task; None of an ordinary one.
        values: of its dependencies and of the request's context, as far as they are known.
        system: the system names beside `task_name` and `index`.
    """
    spec = task.spec
    name = spec.name if index is None else member_name(spec.name, index)
    if index is None:
        return _rendered(task, name, None, values, system)
    member = _member(task, index, values)
    return MemberInputs(name, None) if member is None else _rendered(task, name, member, values, system)


def _member(task: AdmittedTask, index: int, values: Mapping[str, Any]) -> Member | None:
    assert task.spec.expansion_config is not None
    try:
        foreseen = foresee(task.spec.expansion_config, task.array_keys, values)
        return next(iter(foreseen.expanded.members(index, index + 1)), None) if foreseen.expanded else None
    except AnabranchError:  # the arrays do not fit: the task has failed for the same reason, and its events say so
        return None


def _rendered(
    task: AdmittedTask, name: str, member: Member | None, values: Mapping[str, Any], system: Mapping[str, Any]
) -> MemberInputs:
    spec = task.spec
    index = None if member is None else member.index
    scope = member_scope(
        {} if member is None else member.scope, values, {**system, "task_name": spec.name, "index": index}
    )
    known = _is_known(task, values)
    return MemberInputs(
        name,
        {} if member is None else dict(member.variables),
        _template(spec.message_template, scope, typed=False) if known else None,
        _template(spec.inputs, scope, typed=True) if known else None,
        None if member is None else member.identifier,
    )


def _is_known(task: AdmittedTask, values: Mapping[str, Any]) -> bool:
    """Whether every required value that a template mentions is there."""
    mentioned = {
        text
        for template in (task.spec.message_template, task.spec.inputs)
        if template is not None
        for text in placeholders(template)
    }
    missing = {need.key for need in task.needs if need.key not in values and not need.optional}
    return not any(text == key or text.startswith(f"{key}.") for text in mentioned for key in missing)


MAX_SHOWN = 8_000_000
"""Maximum bytes of a rendered template that is shown; a larger one is not shown."""


def _template(template: Any, scope: Any, *, typed: bool) -> Any:
    try:
        return None if template is None else render(template, scope, typed=typed, room=RenderBudget(MAX_SHOWN))
    except RenderedTooLarge:
        return None


Known = Literal["exact", "position"]


def own_result(
    task: AdmittedTask, index: int | None, identifier: str | None, value: Any, completed: Sequence[int], total: int
) -> tuple[Any, Known | None]:
    """A member's own part of a joined value, and how well that is known.

    A merged list does not say which of its items are whose. Where it has one for each member that completed, the
    item at the member's position is given, `position` says so: a list of one item looks the same as the item.

    Args:
        completed: the members that completed, ascending; `total`: how many members there are.
    """
    if index is None:
        return value, "exact"
    form = task.spec.expansion_config.output_format if task.spec.expansion_config else "merge"
    if form == "index" and isinstance(value, list) and index < len(value):
        return value[index], "exact"
    if form == "separate" and isinstance(value, Mapping) and (identifier or str(index)) in value:
        return value[identifier or str(index)], "exact"
    if form == "single" and index == total - 1:
        return value, "exact"
    if form == "merge" and isinstance(value, list) and len(value) == len(completed):
        place = bisect_left(completed, index)
        if place < len(completed) and completed[place] == index:
            return value[place], "position"
    return None, None
