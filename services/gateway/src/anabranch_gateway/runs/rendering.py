"""Reconstructs what the agent of a member received and returned.

Variables, message and inputs are rendered again from the request and the known values; the member's own part is
extracted from the task's results. What is not known is null, never guessed. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from anabranch.core.errors import AnabranchError
from anabranch.core.expansion.members import Member, member_name
from anabranch.core.request.graph import Dependency
from anabranch.core.request.member_counts import forecast_members
from anabranch.core.request.models import TaskSpec
from anabranch.core.templates import RenderBudget, RenderedTooLarge, member_scope, placeholders, render
from anabranch_gateway.runs.admitted_requests import AdmittedRequest


@dataclass(frozen=True, slots=True)
class MemberInputs:
    """The inputs of a member: its name and variables, and its rendered templates; None for what is not known."""

    name: str
    variables: dict[str, Any] | None
    message: Any = None
    inputs: Any = None
    identifier: str | None = None

    def to_document(self) -> dict[str, Any]:
        return {"name": self.name, "variables": self.variables, "message": self.message, "inputs": self.inputs}


@dataclass(frozen=True, slots=True)
class AdmittedTask:
    """A task of an admitted request, with its dependencies from the graph."""

    group: str
    spec: TaskSpec
    needs: Sequence[Dependency]
    array_keys: Mapping[str, str]


def find_task(admitted: AdmittedRequest, group: str, task: str) -> AdmittedTask | None:
    """The task with this name; None if the request has none."""
    for index, (name, spec) in enumerate(admitted.tasks):
        if name == group and spec.name == task:
            return AdmittedTask(group, spec, admitted.graph.needs[index], admitted.graph.array_keys[index])
    return None


def rendered_inputs(
    task: AdmittedTask, index: int | None, values: Mapping[str, Any], system: Mapping[str, Any]
) -> MemberInputs:
    """The inputs of a member.

    Args:
        index: the member of an expanded task; None for an ordinary task.
        values: the known values of its dependencies and of the request's context.
        system: the system names besides `task_name` and `index`.
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
        forecast = forecast_members(task.spec.expansion_config, task.array_keys, values)
        return next(iter(forecast.expanded.members(index, index + 1)), None) if forecast.expanded else None
    except AnabranchError:  # the expansion is invalid: the task has failed, and its events have the reason
        return None


def _rendered(
    task: AdmittedTask, name: str, member: Member | None, values: Mapping[str, Any], system: Mapping[str, Any]
) -> MemberInputs:
    spec = task.spec
    index = None if member is None else member.index
    scope = member_scope(
        {} if member is None else member.scope, values, {**system, "task_name": spec.name, "index": index}
    )
    known = _has_all_values(task, values)
    return MemberInputs(
        name,
        {} if member is None else dict(member.variables),
        _template(spec.message_template, scope, typed=False) if known else None,
        _template(spec.inputs, scope, typed=True) if known else None,
        None if member is None else member.identifier,
    )


def _has_all_values(task: AdmittedTask, values: Mapping[str, Any]) -> bool:
    """True if all required values that a template mentions are known."""
    mentioned = {
        text
        for template in (task.spec.message_template, task.spec.inputs)
        if template is not None
        for text in placeholders(template)
    }
    missing = {need.key for need in task.needs if need.key not in values and not need.optional}
    # A placeholder `key.field` needs the value of `key`.
    return not any(text == key or text.startswith(f"{key}.") for text in mentioned for key in missing)


MAX_SHOWN = 8_000_000
"""Maximum bytes of a rendered template; a larger one is shown as null."""


def _template(template: Any, scope: Any, *, typed: bool) -> Any:
    try:
        return None if template is None else render(template, scope, typed=typed, budget=RenderBudget(MAX_SHOWN))
    except RenderedTooLarge:
        return None


Certainty = Literal["exact", "position"]


def member_result(
    task: AdmittedTask, index: int | None, identifier: str | None, value: Any, completed: Sequence[int], total: int
) -> tuple[Any, Certainty | None]:
    """A member's own part of a joined value, and how certain that is.

    A merged list does not say which member returned which item. If it has as many items as members completed, the
    item at the member's position is returned, with `position`: it may be wrong, because a member that returned a
    list of one item cannot be distinguished from one that returned the item.

    Args:
        identifier: the member's identifier, if the request gives members one.
        completed: the completed members, ascending.
        total: the number of all members.

    Returns:
        The part and its certainty; (None, None) if it is not known.
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
        position = bisect_left(completed, index)
        if position < len(completed) and completed[position] == index:
            return value[position], "position"
    return None, None
