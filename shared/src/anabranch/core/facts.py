"""What a request's document says of its tasks, as far as it can be read.

Tolerant on purpose: a task with a schema error still produces and waits for what is readable of it, so that
one refusal can name every error. Where something is unreadable it is left out, never guessed; the schema
check reports it. Judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from anabranch.core.envelope import Path
from anabranch.core.expansion import sources
from anabranch.core.fields import array_source
from anabranch.core.request import Expansion, split_optional


class Declared(NamedTuple):
    """A name or key and where it is written."""

    text: str
    path: Path


class Wanted(NamedTuple):
    """A key that a task waits for; required unless every place that names it says otherwise."""

    key: str
    optional: bool
    path: Path


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """One task of the document. ``wants`` has its own dependencies, then its group's, then external ones.

    ``array_paths`` are the context paths its expansion maps: their first segments are dependencies as well.
    """

    group: str
    name: str
    path: Path
    agent: Declared | None
    wants: tuple[Wanted, ...]
    external: frozenset[str]
    produces: tuple[Declared, ...]
    optional_results: tuple[Declared, ...]
    optional_wants: tuple[Declared, ...]
    array_paths: tuple[Declared, ...]
    expansion: Expansion | None
    raw_expansion: Mapping[str, Any] | None
    held_on_failure: bool
    """A failed member is to keep its join open: ``"on_failure": "hold"``."""
    retries_never: bool
    """It sets ``max_attempts`` without a strategy: no failure is retried."""

    @property
    def label(self) -> str:
        return f"{self.group}/{self.name}"


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A group's name, if readable, and its place."""

    name: Declared | None
    tasks: tuple[tuple[Declared | None, TaskFacts], ...]


def read_facts(document: Mapping[str, Any]) -> list[GroupFacts]:
    """The groups and tasks of a request's document (not an envelope), in declared order."""
    return [
        _group_facts(group, ("task_groups", index))
        for index, group in enumerate(_list(document.get("task_groups")))
        if isinstance(group, Mapping)
    ]


def _group_facts(group: Mapping[str, Any], path: Path) -> GroupFacts:
    name = _declared(group, "name", path)
    shown = name.text if name else f"#{int(path[-1]) + 1}"
    inherited = list(_wanted(group, "dependencies", path))
    tasks = [
        (_declared(task, "name", where), _task_facts(task, where, shown, inherited))
        for index, task in enumerate(_list(group.get("tasks")))
        if isinstance(task, Mapping) and (where := (*path, "tasks", index))
    ]
    return GroupFacts(name, tuple(tasks))


def _task_facts(task: Mapping[str, Any], path: Path, group: str, inherited: list[Wanted]) -> TaskFacts:
    name = _declared(task, "name", path)
    external = list(_wanted(task, "external_dependencies", path))
    marked = tuple(_bare(item) for item in _strings(task, "optional_dependencies", path))
    own = [*_wanted(task, "dependencies", path), *external]
    config = task.get("expansion_config")
    raw = config if isinstance(config, Mapping) else None
    expansion = _expansion(raw) if raw is not None else None
    return TaskFacts(
        group=group,
        name=name.text if name else f"#{int(path[-1]) + 1}",
        path=path,
        agent=_declared(task, "agent", path) or _declared(task, "agent_class", path),
        wants=_merged(own, {item.text for item in marked}, inherited),
        external=frozenset(wanted.key for wanted in external),
        produces=tuple(_strings(task, "result_keys", path)),
        optional_results=tuple(_strings(task, "optional_result_keys", path)),
        optional_wants=marked,
        array_paths=tuple(_array_paths(raw, expansion, (*path, "expansion_config"))) if raw else (),
        expansion=expansion,
        raw_expansion=raw,
        held_on_failure=task.get("on_failure") == "hold",
        retries_never=_retries_never(task.get("retry")),
    )


def _merged(own: list[Wanted], marked: set[str], inherited: list[Wanted]) -> tuple[Wanted, ...]:
    """One entry for each key. Within a task any ``?`` makes it optional; the group may make it required."""
    keys: dict[str, Wanted] = {}
    optional = marked | {wanted.key for wanted in own if wanted.optional}
    for wanted in own:
        keys.setdefault(wanted.key, Wanted(wanted.key, wanted.key in optional, wanted.path))
    for wanted in inherited:
        known = keys.get(wanted.key)
        if known is None or (known.optional and not wanted.optional):
            keys[wanted.key] = wanted
    return tuple(keys.values())


def _retries_never(retry: Any) -> bool:
    if not isinstance(retry, Mapping) or retry.get("max_attempts") in (None, 1):
        return False
    return retry.get("strategy") in (None, "none")


def _expansion(config: Mapping[str, Any]) -> Expansion | None:
    try:
        return Expansion.model_validate(config)
    except ValidationError:  # reported, with its place, by the schema check of the whole request
        return None


def _array_paths(raw: Mapping[str, Any], expansion: Expansion | None, path: Path) -> Iterator[Declared]:
    mapping = raw.get("array_mapping")
    mapped = mapping if isinstance(mapping, Mapping) else {}
    known: Mapping[str, Any] = mapped if expansion is None else sources(expansion)
    for variable, source in known.items():
        text = array_source(source)
        if isinstance(text, str):
            place = (*path, "array_mapping", variable) if variable in mapped else (*path, "transform_rules")
            yield Declared(text, place)


def _wanted(document: Mapping[str, Any], name: str, path: Path) -> Iterator[Wanted]:
    for item in _strings(document, name, path):
        key, optional = split_optional(item.text)
        yield Wanted(key, optional, item.path)


def _bare(item: Declared) -> Declared:
    return Declared(split_optional(item.text)[0], item.path)


def _strings(document: Mapping[str, Any], name: str, path: Path) -> Iterator[Declared]:
    items = document.get(name)
    if items:
        place = (*path, name)
        for index, item in enumerate(_list(items)):
            if isinstance(item, str):
                yield Declared(item, (*place, index))


def _declared(document: Mapping[str, Any], name: str, path: Path) -> Declared | None:
    value = document.get(name)
    return Declared(value, (*path, name)) if isinstance(value, str) else None


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else ()
