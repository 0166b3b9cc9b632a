"""What a workflow is made of, with the places of its calls, and how it becomes the document of a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from anabranch.core.request.document import Document
from anabranch.sdk.workflow.places import Place, wrong

Path: TypeAlias = tuple[str | int, ...]
Kind: TypeAlias = Literal["task", "functions", "parallel", "sequential", "if", "switch", "loop", "group"]


@dataclass(frozen=True, slots=True)
class Step:
    """A task of a workflow, to be named by others: in `after` as a task, in `dependencies` by its first key.

    Attributes:
        name: None if the step has no name.
        keys: its result keys.
    """

    name: str | None
    keys: tuple[str, ...]

    @property
    def key(self) -> str:
        """The first result key."""
        return self.keys[0]

    def value(self, path: str = "") -> str:
        """A placeholder of its value: `"{build}"`, with a path `"{build.file}"`."""
        return f"{{{self.key}.{path}}}" if path else f"{{{self.key}}}"

    def __str__(self) -> str:
        return self.name or "(a step without a name)"


@dataclass(slots=True)
class Case:
    """A case of a switch; the default has no condition."""

    when: Any
    place: Place
    items: list[Item] = field(default_factory=list)


@dataclass(slots=True)
class Item:
    """A step, a block of steps, or a group.

    Attributes:
        fields: its own fields, as in the request.
        items: the steps in it.
        cases: of `if` and `switch`.
        default: of `switch`; of `if` what `otherwise` has.
    """

    kind: Kind
    place: Place
    fields: dict[str, Any] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    default: Case | None = None

    @property
    def is_group(self) -> bool:
        """True for a group, and for a switch between groups."""
        return self.kind == "group" or (
            self.kind == "switch" and any(item.is_group for case in self.branches() for item in case.items)
        )

    def branches(self) -> Iterator[Case]:
        """The cases, with the default."""
        yield from self.cases
        if self.default is not None:
            yield self.default


class Writer:
    """Writes items as parts of a request, and keeps the place of each part by its path."""

    def __init__(self) -> None:
        self.places: dict[Path, Place] = {}

    def steps(self, items: Sequence[Item], path: Path) -> list[dict[str, Any]]:
        """The list of steps at a path."""
        return [self._step(item, (*path, number)) for number, item in enumerate(items)]

    def groups(self, items: Sequence[Item], path: Path) -> list[dict[str, Any]]:
        """The list of groups at a path."""
        return [self._group(item, (*path, number)) for number, item in enumerate(items)]

    def _step(self, item: Item, path: Path) -> dict[str, Any]:
        self.places[path] = item.place
        fields: dict[str, Any] = plain(item.fields, item.place)
        match item.kind:
            case "task":
                return fields
            case "functions" if len(item.items) == 1:
                return self._step(item.items[0], path)
            case "functions":
                return {"parallel": self.steps(item.items, (*path, "parallel"))}
            case "parallel" | "sequential":
                return {**fields, item.kind: self.steps(item.items, (*path, item.kind))}
            case "loop":
                return self._loop(fields, item, path)
            case "if":
                return self._if(fields, item, path)
            case "switch":
                named = {"name": fields["name"]} if "name" in fields else {}
                return {**named, "switch": self._switch(item, (*path, "switch"), "steps")}
            case "group":
                raise wrong(item.place, "a group inside of other steps", "a workflow has groups, or steps")

    def _loop(self, fields: dict[str, Any], item: Item, path: Path) -> dict[str, Any]:
        name = {"name": fields.pop("name")} if "name" in fields else {}
        return {**name, "loop": {**fields, "steps": self.steps(item.items, (*path, "loop", "steps"))}}

    def _if(self, fields: dict[str, Any], item: Item, path: Path) -> dict[str, Any]:
        [case] = item.cases
        found = {**fields, "if": plain(case.when, case.place), "then": self.steps(case.items, (*path, "then"))}
        if item.default is not None:
            found["else"] = self.steps(item.default.items, (*path, "else"))
        return found

    def _switch(self, item: Item, path: Path, kind: str) -> dict[str, Any]:
        cases = []
        for number, case in enumerate(item.cases):
            place = (*path, "cases", number)
            self.places[place] = case.place
            cases.append({"when": plain(case.when, case.place), kind: self._chosen(case, (*place, kind), kind)})
        found: dict[str, Any] = {"cases": cases}
        if item.default is not None:
            self.places[*path, "default"] = item.default.place
            if kind == "steps":
                found["default"] = self.steps(item.default.items, (*path, "default"))
            else:
                found["default"] = {kind: self._chosen(item.default, (*path, "default", kind), kind)}
        return found | {name: item.fields[name] for name in ("on_no_match",) if name in item.fields}

    def _chosen(self, case: Case, path: Path, kind: str) -> list[dict[str, Any]]:
        return self.groups(case.items, path) if kind == "groups" else self.steps(case.items, path)

    def _group(self, item: Item, path: Path) -> dict[str, Any]:
        self.places[path] = item.place
        if item.kind == "group":
            return {**plain(item.fields, item.place), "tasks": self._tasks(item.items, (*path, "tasks"))}
        if item.kind == "switch":
            kinds = {each.is_group for case in item.branches() for each in case.items}
            if len(kinds) > 1:
                raise wrong(
                    item.place, "a switch with groups in one case and tasks in another", "use groups in all"
                )
            named = {"name": item.fields["name"]} if "name" in item.fields else {}
            kind = "groups" if kinds == {True} else "tasks"
            return {**named, "switch": self._switch(item, (*path, "switch"), kind)}
        raise wrong(
            item.place, "a step outside of the groups of this workflow", "put it into a group, or use no `group`"
        )

    def _tasks(self, items: Sequence[Item], path: Path) -> list[dict[str, Any]]:
        tasks = [task for item in items for task in (item.items if item.kind == "functions" else [item])]
        for task in tasks:
            if task.kind != "task":
                raise wrong(
                    task.place, f"a block `{task.kind}` in a group", "a group has tasks; leave out the group"
                )
        return self.steps(tasks, path)


def plain(value: Any, place: Place) -> Any:
    """A value as JSON: models as their documents, durations in seconds, steps by their names."""
    if isinstance(value, Document):
        return value.to_document()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Step):
        if value.name is None:
            raise wrong(place, "a step without a name cannot be named by others", "give it a name")
        return value.name
    if isinstance(value, Mapping):
        return {str(name): plain(each, place) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each, place) for each in value]
    return value
