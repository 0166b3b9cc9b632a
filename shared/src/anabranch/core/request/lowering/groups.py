"""Lowers the items of `task_groups`: switches, and groups with `when`, `sequential` or `loop`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anabranch.core.errors import Code
from anabranch.core.names import LOOP_OF_GROUP, key_problem
from anabranch.core.request.lowering.cases import Case, read_switch, switch_step
from anabranch.core.request.lowering.drafts import (
    MAX_NESTING,
    GroupDraft,
    Names,
    Problems,
    TaskDraft,
    branch_off,
    follow,
    with_full_names,
)
from anabranch.core.request.sent import Path

SPELLED = ("when", "sequential", "loop")
"""The fields of a group that become steps."""
_SWITCH = "(switch)"


class GroupLowering:
    """Lowers the groups of one request.

    Args:
        names: takes names of groups.
    """

    def __init__(self, names: Names, problems: Problems) -> None:
        self._names = names
        self._problems = problems
        self._found: list[GroupDraft | Any] = []
        self._named: list[tuple[str, str, int, Path]] = []
        """Groups that a case names: (group, switch as group/task, number of the case, path)."""

    def all(self, groups: Sequence[Any], path: Path) -> list[GroupDraft | Any]:
        """The lowered groups; an item that is no object stays as it is."""
        for number, group in enumerate(groups):
            self._item(group, (*path, number), 1)
        self._branch_named()
        return self._found

    def _item(self, group: Any, path: Path, level: int) -> GroupDraft | None:
        if level > MAX_NESTING:
            self._problems.add(path, f"switches are nested deeper than {MAX_NESTING} levels", "", Code.TOO_DEEP)
            return None
        if not isinstance(group, Mapping):
            self._found.append(group)
            return None
        if "switch" in group and "tasks" not in group:
            return self._switch(group, path, level)
        draft = _draft(group, path, (*path, "tasks"))
        self._found.append(draft)
        tasks = group.get("tasks")
        if not isinstance(tasks, (list, tuple)):
            # Reported by the schema check, as the field that it is.
            draft.document |= {"tasks": tasks} if tasks is not None else {}
            self._found[-1] = draft.document
            return None
        draft.tasks = _tasks(tasks, (*path, "tasks"), draft.name)
        if group.get("sequential") is True:
            _chain(draft.tasks, draft.name)
        elif group.get("sequential") not in (None, False):
            self._problems.add((*path, "sequential"), "`sequential`: must be true or false")
        self._wrap(draft, group)
        return draft

    def _switch(self, item: Mapping[str, Any], path: Path, level: int) -> GroupDraft:
        document = {name: value for name, value in item.items() if name not in ("switch", *SPELLED)}
        if document.get("name") is None:
            document["name"] = self._names.take("switch", "switch-{}")
        draft = GroupDraft(document, path, (*path, "switch", "cases"))
        self._found.append(draft)
        cases, fields = read_switch(item["switch"], (*path, "switch"), ("tasks", "groups"), self._problems)
        step = switch_step(_SWITCH, fields, cases, path)
        draft.tasks.append(step)
        label = f"{draft.name}/{_SWITCH}"
        for number, case in enumerate(cases):
            self._case(draft, label, number, case, is_chained=item.get("sequential") is True, level=level)
        self._wrap(draft, item)
        return draft

    def _case(
        self, draft: GroupDraft, switch: str, number: int, case: Case, *, is_chained: bool, level: int
    ) -> None:
        if case.kind == "groups":
            for at, group in enumerate(case.items):
                place: Path = (*case.items_path, at)
                if isinstance(group, str):
                    self._named.append((group, switch, number, place))
                elif (inner := self._item(group, place, level + 1)) is not None:
                    self._branch(inner, switch, number)
            return
        tasks = _tasks(case.items, case.items_path, draft.name)
        if is_chained:
            _chain(tasks, draft.name)
        for task in tasks:
            if task.is_root:
                branch_off(task, switch, number, self._problems)
        draft.tasks += tasks

    def _branch_named(self) -> None:
        from anabranch.core.request.validation import suggestion  # which imports what uses this

        groups = {draft.name: draft for draft in self._found if isinstance(draft, GroupDraft)}
        taken: dict[str, str] = {}
        for name, switch, number, path in self._named:
            if (draft := groups.get(name)) is None:
                hint = suggestion(name, groups) or "name a group of the request, or write the group here"
                self._problems.add(path, f"there is no group {name!r}", hint, Code.UNKNOWN_DEPENDENCY)
            elif name in taken:
                message = f"the group {name!r} already belongs to a case of {taken[name]}"
                self._problems.add(path, message, "a group belongs to one case")
            else:
                taken[name] = switch
                self._branch(draft, switch, number)

    def _branch(self, draft: GroupDraft, switch: str, number: int) -> None:
        for task in list(draft.roots()):
            branch_off(task, switch, number, self._problems)

    def _wrap(self, draft: GroupDraft, group: Mapping[str, Any]) -> None:
        """Add the steps for the `loop` and the `when` of a group: the condition is evaluated before the loop."""
        if group.get("loop") is not None:
            self._repeat(draft, group)
        if group.get("when") is not None:
            step = TaskDraft(_once(group["when"]), draft.path, {})
            step.moved = {("switch",): (*draft.path, "when"), ("switch", "cases", 0): (*draft.path, "when")}
            for task in list(draft.roots()):
                branch_off(task, f"{draft.name}/(when)", 0, self._problems)
            draft.tasks.insert(0, step)

    def _repeat(self, draft: GroupDraft, group: Mapping[str, Any]) -> None:
        step = loop_step(LOOP_OF_GROUP, group["loop"], f"{draft.name}.loop", draft.tasks, draft.path)
        step.moved[("result_keys",)] = draft.tasks_path
        for task in draft.tasks:
            if isinstance(task.document, dict) and "in_loop" not in task.document:
                task.document["in_loop"] = LOOP_OF_GROUP
        draft.tasks.insert(0, step)


def loop_step(name: str, loop: Any, own_key: str, body: Sequence[TaskDraft], path: Path) -> TaskDraft:
    """The step that repeats a body. Its result keys are those of the body that it collects, and the loop's own."""
    collects = not isinstance(loop, Mapping) or loop.get("collect") != "none"
    inner = [task for task in body if isinstance(task.document, dict) and "in_loop" not in task.document]
    keys = [key for task in inner for key in task.result_keys] if collects else []
    if key_problem(own_key) is None:
        keys.append(own_key)
    document = {"name": name, "loop": loop} | ({"result_keys": list(dict.fromkeys(keys))} if keys else {})
    return TaskDraft(document, path)


def _once(when: Any) -> dict[str, Any]:
    return {"name": "(when)", "switch": {"cases": [when], "on_no_match": "skip", "reason": "condition"}}


def _draft(group: Mapping[str, Any], path: Path, tasks_path: Path) -> GroupDraft:
    document = {name: value for name, value in group.items() if name not in ("tasks", *SPELLED)}
    return GroupDraft(document, path, tasks_path)


def _tasks(tasks: Sequence[Any], path: Path, group: str) -> list[TaskDraft]:
    return [
        TaskDraft(with_full_names(dict(task), group) if isinstance(task, Mapping) else task, (*path, number))
        for number, task in enumerate(tasks)
    ]


def _chain(tasks: Sequence[TaskDraft], group: str) -> None:
    """Let each task follow the one before it."""
    before: str | None = None
    for task in tasks:
        if not isinstance(task.document, dict):
            continue
        if before is not None:
            follow(task, [f"{group}/{before}"])
        before = task.name
