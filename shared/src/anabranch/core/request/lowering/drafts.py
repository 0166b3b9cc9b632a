"""Groups and tasks that lowering makes, each part with its path in the request as given. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from anabranch.core.errors import Code, Problem
from anabranch.core.request.sent import Path
from anabranch.core.request.task_spelling import default_result, split_optional

MAX_NESTING = 50
"""Maximum levels of steps or switches in each other."""


@dataclass(slots=True)
class TaskDraft:
    """A task of the lowered request.

    Attributes:
        document: its document; anything else than an object stays as it is.
        path: its path in the request as given.
        moved: paths within the document -> paths in the request, for what was elsewhere.
    """

    document: Any
    path: Path
    moved: dict[Path, Path] = field(default_factory=dict)

    @property
    def name(self) -> str | None:
        found = self.document.get("name") if isinstance(self.document, dict) else None
        return found if isinstance(found, str) else None

    @property
    def result_keys(self) -> list[str]:
        """The keys that it declares, by default its name."""
        keys = self.document.get("result_keys") if isinstance(self.document, dict) else ()
        if isinstance(keys, (list, tuple)):
            return [key for key in keys if isinstance(key, str)]
        name = default_result(self.document)
        return [] if name is None else [name]

    @property
    def is_root(self) -> bool:
        """True if neither a loop nor a switch of its group decides about it."""
        return isinstance(self.document, dict) and "in_loop" not in self.document and "branch" not in self.document


@dataclass(slots=True)
class GroupDraft:
    """A group of the lowered request. `document` has no tasks; `tasks_path` is where the request has them."""

    document: dict[str, Any]
    path: Path
    tasks_path: Path
    tasks: list[TaskDraft] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name; an unreadable one is reported by the schema check."""
        found = self.document.get("name")
        return found if isinstance(found, str) else ""

    def roots(self) -> Iterator[TaskDraft]:
        return (task for task in self.tasks if task.is_root)


@dataclass(slots=True)
class Problems:
    """Collects what cannot be lowered, with paths in the request as given."""

    found: list[tuple[Code, Path, str, str]] = field(default_factory=list)

    def add(self, path: Path, message: str, hint: str = "", code: Code = Code.SCHEMA) -> None:
        self.found.append((code, path, message, hint))

    def made(self, pointer: Any) -> Iterator[Problem]:
        return (Problem(code, pointer(path), message, hint) for code, path, message, hint in self.found)


def branch_off(task: TaskDraft, switch: str, case: int, problems: Problems) -> None:
    """Make a task a case of a switch, written as group/task."""
    if "branch" in task.document:
        problems.add(task.path, "the task is a branch of two switches", "put it into one of them")
        return
    task.document["branch"] = {"switch": switch, "case": case}


def with_full_names(document: dict[str, Any], group: str) -> dict[str, Any]:
    """Write the tasks that a task names as group/task. Changes and returns its document."""
    for name in ("after", "follows"):
        items = document.get(name)
        if isinstance(items, (list, tuple)):
            document[name] = [_full(item, group, name == "after") for item in items]
    branch = document.get("branch")
    if isinstance(branch, Mapping) and isinstance(branch.get("switch"), str):
        document["branch"] = {**branch, "switch": _full(branch["switch"], group, False)}
    return document


def _full(item: Any, group: str, may_be_optional: bool) -> Any:
    if not isinstance(item, str):
        return item
    name = split_optional(item)[0] if may_be_optional else item
    return item if "/" in name or not group else f"{group}/{item}"


def follow(task: TaskDraft, others: Iterable[str]) -> None:
    """Begin a task after others, written as group/task, unless one failed."""
    if names := list(others):
        known = task.document.get("follows")
        task.document["follows"] = [*(known if isinstance(known, (list, tuple)) else ()), *names]


def unknown_fields(document: Mapping[str, Any], known: Iterable[str], path: Path, problems: Problems) -> None:
    """Report fields that a part of the request does not have."""
    from anabranch.core.request.validation import suggestion  # which imports what uses this

    names = list(known)
    for name in document:
        if name not in names:
            hint = suggestion(str(name), names) or f"the fields are: {', '.join(names)}"
            problems.add((*path, name), f"there is no field `{name}` here", hint, Code.UNKNOWN_FIELD)


class Names:
    """Names that are not taken yet in the request, or in one group."""

    def __init__(self, taken: Iterable[Any] = ()) -> None:
        self._taken = {name for name in taken if isinstance(name, str)}

    def take(self, wanted: str, numbered: str) -> str:
        """A free name: the wanted one, else the first of `numbered` with the numbers from 2."""
        name, number = wanted, 2
        while name in self._taken:
            name, number = numbered.format(number), number + 1
        self._taken.add(name)
        return name
