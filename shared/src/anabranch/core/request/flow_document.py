"""How `plan --json` shows the control flow of a task. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anabranch.core.conditions import to_text
from anabranch.core.request.flow import Loop
from anabranch.core.request.flow_outline import task_named
from anabranch.core.request.task_spelling import split_optional

if TYPE_CHECKING:
    from anabranch.core.request.foresight import Foresight
    from anabranch.core.request.planning import Plan, PlannedTask


def flow_document(plan: Plan, index: int, foresight: Foresight) -> dict[str, Any]:
    """The fields of a task that control flow adds: only those that it has, but always `kind` and `will_skip`."""
    task = plan.tasks[index]
    spec = task.spec
    found: dict[str, Any] = {"kind": spec.kind, "will_skip": foresight.will_skip[index]}
    if (error := foresight.errors.get(index)) is not None:
        found["condition_error"] = error
    if spec.when is not None:
        found |= {"when": spec.when, "when_text": to_text(spec.when)}
    if spec.after:
        found["after"] = [_full(name, task.group) for name in spec.after]
    if spec.follows:
        found["follows"] = ["/".join(task_named(name, task.group)) for name in spec.follows]
    if task.branch is not None:
        found["branch"] = {"switch": "/".join(task.branch.switch), "case": task.branch.case}
    if spec.in_loop is not None:
        found["in_loop"] = f"{task.group}/{spec.in_loop}"
    if spec.error_key is not None:
        found["error_key"] = spec.error_key
    return found | _of_kind(plan, index, foresight)


def _of_kind(plan: Plan, index: int, foresight: Foresight) -> dict[str, Any]:
    task = plan.tasks[index]
    spec = task.spec
    found: dict[str, Any] = {}
    if spec.switch is not None:
        cases = [to_text(case) for case in spec.switch.cases]
        found["switch"] = {
            "cases": cases,
            "has_default": spec.switch.has_default,
            "on_no_match": spec.switch.on_no_match,
            "chosen": foresight.chosen.get(index),
        }
    if spec.loop is not None:
        body = [each.label for each in plan.tasks if each.group == task.group and each.spec.in_loop == task.name]
        found["loop"] = spec.loop.to_document() | {"max_iterations": spec.loop.limit, "body": body}
        for name, condition in (("while", spec.loop.while_), ("until", spec.loop.until)):
            if condition is not None:
                found["loop"][f"{name}_text"] = to_text(condition)
        found["bound"] = bound_of(task)
    if spec.wait is not None:
        found["wait"] = spec.wait.to_document()
    if spec.run is not None:
        found["run"] = spec.run.to_document()
    return found


def _full(name: str, group: str) -> str:
    text, is_optional = split_optional(name)
    return "/".join(task_named(text, group)) + ("?" if is_optional else "")


def bound_of(task: PlannedTask) -> str:
    """What ends a loop, in words; empty for a task without one."""
    return "" if task.spec.loop is None else end_of_loop(task.spec.loop)


def end_of_loop(loop: Loop) -> str:
    """What ends a loop, in words: `until draft == "good", at most 10 times`."""
    parts = [
        f"for each of {loop.each if isinstance(loop.each, str) else f'{len(loop.each)} items'}"
        if loop.each
        else "",
        f"while {to_text(loop.while_)}" if loop.while_ is not None else "",
        f"until {to_text(loop.until)}" if loop.until is not None else "",
    ]
    # A list ends by itself.
    most = f", at most {loop.limit:,} times" if loop.each is None or loop.max_iterations is not None else ""
    return f"{' '.join(filter(None, parts))}{most}"
