"""Reads the cases of a `switch` as users write it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anabranch.core.request.lowering.drafts import Problems, TaskDraft, unknown_fields
from anabranch.core.request.sent import Path


@dataclass(frozen=True, slots=True)
class Case:
    """One case: its condition, and what it chooses. `kind` is the field that has the items.

    The default is the last case; its `when` is null.
    """

    when: Any
    when_path: Path
    kind: str
    items: Sequence[Any]
    items_path: Path
    is_default: bool = False


def read_switch(
    switch: Any, path: Path, kinds: Sequence[str], problems: Problems
) -> tuple[list[Case], dict[str, Any]]:
    """The cases of a switch, and its other fields.

    Args:
        kinds: the fields in which a case may have what it chooses.
    """
    if not isinstance(switch, Mapping):
        problems.add(path, "`switch`: must be an object", "it has `cases`: [{when, " + " or ".join(kinds) + "}]")
        return [], {}
    unknown_fields(switch, ("cases", "default", "on_no_match"), path, problems)
    cases = list(_cases(switch.get("cases"), (*path, "cases"), kinds, problems))
    if (default := switch.get("default")) is not None:
        cases.append(_default(default, (*path, "default"), kinds, problems))
    return cases, {"on_no_match": switch["on_no_match"]} if switch.get("on_no_match") is not None else {}


def switch_step(name: str, fields: Mapping[str, Any], cases: Sequence[Case], path: Path) -> TaskDraft:
    """The step that chooses one of the cases. `path` is that of the object with `switch`."""
    conditions = [case for case in cases if not case.is_default]
    switch: dict[str, Any] = {"cases": [case.when for case in conditions], **fields}
    if len(conditions) < len(cases):
        switch["has_default"] = True
    moved: dict[Path, Path] = {("switch", "cases", at): case.when_path for at, case in enumerate(conditions)}
    return TaskDraft({"name": name, "switch": switch}, path, moved)


def _cases(cases: Any, path: Path, kinds: Sequence[str], problems: Problems) -> Iterator[Case]:
    if not isinstance(cases, (list, tuple)) or not cases:
        message = "`cases` is missing" if cases is None else "`cases`: must be a list of at least one case"
        problems.add(path[:-1] if cases is None else path, message, "a case has `when` and " + " or ".join(kinds))
        return
    for number, case in enumerate(cases):
        place: Path = (*path, number)
        if not isinstance(case, Mapping):
            problems.add(place, "a case must be an object", "it has `when` and " + " or ".join(kinds))
            continue
        unknown_fields(case, ("when", *kinds), place, problems)
        if case.get("when") is None:
            problems.add(place, "`when` is missing", "add the condition of this case, or make it the `default`")
        kind, items = _chosen(case, place, kinds, problems)
        # A missing condition is reported; `true` stands in, so that it is not reported again.
        when = case.get("when")
        yield Case(True if when is None else when, (*place, "when"), kind, items, (*place, kind))


def _default(default: Any, path: Path, kinds: Sequence[str], problems: Problems) -> Case:
    if isinstance(default, (list, tuple)):
        has_groups = "groups" in kinds and all(isinstance(item, str) or _is_group(item) for item in default)
        return Case(None, path, "groups" if has_groups and default else kinds[0], default, path, True)
    if not isinstance(default, Mapping):
        problems.add(path, "`default`: must be an object or a list", "it has " + " or ".join(kinds))
        return Case(None, path, kinds[0], (), path, True)
    unknown_fields(default, kinds, path, problems)
    kind, items = _chosen(default, path, kinds, problems)
    return Case(None, path, kind, items, (*path, kind), True)


def _is_group(item: Any) -> bool:
    return isinstance(item, Mapping) and ("tasks" in item or ("switch" in item and "name" not in item))


def _chosen(
    case: Mapping[str, Any], path: Path, kinds: Sequence[str], problems: Problems
) -> tuple[str, Sequence[Any]]:
    given = [kind for kind in kinds if case.get(kind) is not None]
    if len(given) != 1:
        message = f"has both `{given[0]}` and `{given[1]}`" if given else f"has no {' and no '.join(kinds)}"
        problems.add(path, f"the case {message}", "give it one of " + ", ".join(kinds))
        return kinds[0], ()
    items = case[given[0]]
    if not isinstance(items, (list, tuple)):
        problems.add((*path, given[0]), f"`{given[0]}`: must be a list")
        return given[0], ()
    return given[0], items
