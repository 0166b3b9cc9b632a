"""Lowers a request: finds what is spelled in another way, and builds the request that it stands for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anabranch.core.request.lowering.drafts import GroupDraft, Names, Problems, with_full_names
from anabranch.core.request.lowering.groups import GroupLowering
from anabranch.core.request.lowering.steps import lower_steps
from anabranch.core.request.sent import Path

_OF_GROUP = frozenset({"when", "sequential", "loop", "switch"})
_OF_TASK = frozenset({"after", "follows", "branch"})


@dataclass(frozen=True, slots=True)
class Lowered:
    """A lowered request.

    Attributes:
        moved: paths in it -> paths in the request as given.
        problems: what could not be lowered.
    """

    request: dict[str, Any]
    moved: dict[Path, Path]
    problems: Problems


def is_spelled(request: Mapping[str, Any]) -> bool:
    """True if a request may have something to lower: one look at its keys, and at those of groups and tasks."""
    if "steps" in request or "finally" in request:
        return True
    groups = request.get("task_groups")
    for group in groups if isinstance(groups, (list, tuple)) else ():
        if isinstance(group, dict):
            if not _OF_GROUP.isdisjoint(group):
                return True
            tasks = group.get("tasks")
            for task in tasks if isinstance(tasks, (list, tuple)) else ():
                if isinstance(task, dict) and not _OF_TASK.isdisjoint(task):
                    return True
    return False


def lowered(request: Mapping[str, Any]) -> Lowered:
    """Lower a request. The given document does not change."""
    problems = Problems()
    document = {name: value for name, value in request.items() if name != "steps"}
    moved: dict[Path, Path] = {}
    steps, groups = request.get("steps"), request.get("task_groups")
    if steps is not None and groups is not None:
        problems.add(
            ("steps",), "a request has either `steps` or `task_groups`, and this one has both", "drop one"
        )
    elif steps is not None:
        moved |= {("task_groups",): ("steps",), ("task_groups", 0): ("steps",)}
        _write([lower_steps(steps, ("steps",), problems)], document, moved)
    elif isinstance(groups, (list, tuple)):
        taken = [group.get("name") for group in groups if isinstance(group, Mapping)]
        found = GroupLowering(Names(taken), problems).all(groups, ("task_groups",))
        _write(found, document, moved)
    last = request.get("finally")
    if isinstance(last, (list, tuple)):
        document["finally"] = [
            with_full_names(dict(task), "finally") if isinstance(task, Mapping) else task for task in last
        ]
    return Lowered(document, moved, problems)


def _write(groups: list[GroupDraft | Any], document: dict[str, Any], moved: dict[Path, Path]) -> None:
    written: list[Any] = []
    for number, group in enumerate(groups):
        if not isinstance(group, GroupDraft):
            written.append(group)
            continue
        place: Path = ("task_groups", number)
        moved[place] = group.path
        moved[*place, "tasks"] = group.tasks_path
        for at, task in enumerate(group.tasks):
            where: Path = (*place, "tasks", at)
            moved[where] = task.path
            moved |= {(*where, *within): origin for within, origin in task.moved.items()}
        written.append(group.document | {"tasks": [task.document for task in group.tasks]})
    document["task_groups"] = written
