"""Outlines of a request's tasks: the names, keys and flags that the graph and the checks need. Pure.

Tolerant: a task with a schema error still has the keys that are readable, so that one refusal can name every
error. Unreadable parts are left out, and the schema check reports them.

There are two readers: ``read_outline`` takes any document; ``outline_of`` takes a request that is valid by the
schema, and needs a fifth of the time. Both return the same outlines of the same document, but only the first one
has the paths of the fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from anabranch.core.expansion.members import sources
from anabranch.core.names import CAPABILITY
from anabranch.core.request.envelope import Path
from anabranch.core.request.fields import array_source
from anabranch.core.request.flow_outline import Declared as Declared
from anabranch.core.request.flow_outline import FlowOutline, flow_outline, flow_outline_of
from anabranch.core.request.models import FINALLY, Expansion, Request, RetryPolicy, TaskGroup, TaskSpec
from anabranch.core.request.task_spelling import default_result, split_optional


class RequestedKey(NamedTuple):
    """A key that a task waits for; required unless every mention of it is optional."""

    key: str
    optional: bool
    path: Path


@dataclass(slots=True)
class TaskOutline:
    """One task of the document. ``wants`` has its own dependencies, then external ones, then its group's.

    ``array_paths`` are the context paths that its expansion maps; their first segments are dependencies too.
    ``expansion`` is None if there is none (then the task is not ``expanded``), or if it is unreadable.
    Immutable by convention; not frozen, because creating frozen instances is slow and requests have thousands.
    """

    group: str
    name: str
    path: Path
    agent: Declared | None
    wants: tuple[RequestedKey, ...]
    external: frozenset[str]
    produces: tuple[Declared, ...]
    optional_results: tuple[Declared, ...]
    optional_wants: tuple[Declared, ...]
    array_paths: tuple[Declared, ...]
    expansion: Expansion | None
    expanded: bool
    names_array: bool
    """The expansion names an array."""
    retries_never: bool
    """The task sets ``max_attempts`` without a strategy, so no failure is retried."""
    tolerates_itself: bool
    """The task has `tolerated_failures` but no expansion, so no members that could fail."""
    flow: FlowOutline | None = None
    """What controls the task; None for most tasks."""

    @property
    def label(self) -> str:
        return f"{self.group}/{self.name}"


@dataclass(frozen=True, slots=True)
class GroupOutline:
    """The name of a group, if readable, and its tasks."""

    name: Declared | None
    tasks: _Tasks


_Tasks = tuple[tuple[Declared | None, TaskOutline], ...]


def count_dependencies(document: Mapping[str, Any]) -> int:
    """The number of dependencies of all tasks; a group's dependencies count for each of its tasks."""
    count = 0
    for group in _list(document.get("task_groups")):
        if isinstance(group, Mapping):
            tasks, inherited = group.get("tasks"), group.get("dependencies")
            if isinstance(tasks, (list, tuple)) and isinstance(inherited, (list, tuple)):
                count += len(tasks) * len(inherited)
    return count


def read_outline(document: Mapping[str, Any]) -> list[GroupOutline]:
    """The groups and tasks of a request's document (not an envelope), in declared order."""
    groups = [
        _group_outline(group, ("task_groups", index))
        for index, group in enumerate(_list(document.get("task_groups")))
        if isinstance(group, Mapping)
    ]
    if last := document.get(FINALLY):
        groups.append(GroupOutline(Declared(FINALLY, (FINALLY,)), _tasks(last, (FINALLY,), FINALLY, [], True)))
    return groups


def _group_outline(group: Mapping[str, Any], path: Path) -> GroupOutline:
    name = _declared(group, "name", path)
    shown = name.text if name else f"#{int(path[-1]) + 1}"
    inherited = list(_wanted(group, "dependencies", path))
    return GroupOutline(name, _tasks(group.get("tasks"), (*path, "tasks"), shown, inherited))


def _tasks(tasks: Any, path: Path, group: str, inherited: list[RequestedKey], is_final: bool = False) -> _Tasks:
    return tuple(
        [
            (_declared(task, "name", where), _task_outline(task, where, group, inherited, is_final))
            for index, task in enumerate(_list(tasks))
            if isinstance(task, Mapping) and (where := (*path, index))  # never empty: only names the path
        ]
    )


def outline_of(request: Request) -> list[GroupOutline]:
    """The outlines of a valid request, as ``read_outline(request.to_document())`` but with empty paths."""
    groups = [_group_outline_of(group) for group in request.task_groups]
    if request.finally_:
        tasks = [(Declared(task.name, ()), _task_outline_of(task, FINALLY, [], True)) for task in request.finally_]
        groups.append(GroupOutline(Declared(FINALLY, ()), tuple(tasks)))
    return groups


def _group_outline_of(group: TaskGroup) -> GroupOutline:
    inherited = [RequestedKey(*split_optional(key), ()) for key in group.dependencies]
    tasks = [(Declared(task.name, ()), _task_outline_of(task, group.name, inherited)) for task in group.tasks]
    return GroupOutline(Declared(group.name, ()), tuple(tasks))


def _task_outline_of(
    task: TaskSpec, group: str, inherited: list[RequestedKey], is_final: bool = False
) -> TaskOutline:
    config, retry, flow = task.expansion_config, task.retry, flow_outline_of(task, group, is_final)
    found = sources(config).values() if config is not None else ()
    arrays = tuple([Declared(source, ()) for source in found if isinstance(source, str)])
    produces = _placeless(task.result_keys)
    if flow is not None:
        arrays, produces = arrays + flow.arrays, produces + flow.produces
    return TaskOutline(
        group=group,
        name=task.name,
        path=(),
        agent=Declared(task.agent, ()) if task.agent else None,
        wants=_wants_of(task, inherited),
        external=frozenset(task.external_dependencies),
        produces=produces,
        optional_results=_placeless(task.optional_result_keys),
        optional_wants=_placeless(task.optional_dependencies),
        array_paths=arrays,
        expansion=config,
        expanded=config is not None,
        names_array=config is not None
        and (any(isinstance(source, str) for source in found) or _expands_alone(config)),
        retries_never=(
            isinstance(retry, RetryPolicy) and retry.strategy == "none" and retry.max_attempts not in (None, 1)
        ),
        tolerates_itself=config is None and _tolerates(task.tolerated_failures),
        flow=flow,
    )


def _wants_of(task: TaskSpec, inherited: list[RequestedKey]) -> tuple[RequestedKey, ...]:
    optional = frozenset(task.optional_dependencies)
    keys = dict.fromkeys(task.dependencies + task.external_dependencies)
    own = [RequestedKey(key, key in optional, ()) for key in keys]
    return tuple(_inherit({want.key: want for want in own}, inherited).values()) if inherited else tuple(own)


def _placeless(keys: Sequence[str]) -> tuple[Declared, ...]:
    return tuple([Declared(key, ()) for key in keys]) if keys else ()


def _expands_alone(config: Expansion) -> bool:
    """True if the expansion has members without an array of the context: literal lists, includes, sequences."""
    rules = config.transform_rules
    sequences = rules.sequence if rules is not None and config.type == "custom" else None
    return bool(config.array_mapping or (config.type == "matrix" and config.include) or sequences)


def _task_outline(
    task: Mapping[str, Any], path: Path, group: str, inherited: list[RequestedKey], is_final: bool
) -> TaskOutline:
    name = _declared(task, "name", path)
    external = list(_wanted(task, "external_dependencies", path))
    marked = tuple(_bare(item) for item in _strings(task, "optional_dependencies", path))
    own = [*_wanted(task, "dependencies", path), *external]
    config = task.get("expansion_config")
    raw = config if isinstance(config, Mapping) else None
    expansion = _expansion(raw) if raw is not None else None
    arrays = tuple(_array_paths(raw, expansion, (*path, "expansion_config"))) if raw else ()
    produces = tuple(_strings(task, "result_keys", path)) or _default_result(task, path)
    names_array = bool(arrays) or _may_expand_alone(raw or {})
    if (flow := flow_outline(task, group, path, is_final)) is not None:
        arrays, produces = arrays + flow.arrays, produces + flow.produces
    return TaskOutline(
        group=group,
        name=name.text if name else f"#{int(path[-1]) + 1}",
        path=path,
        agent=_agent(task, "agent", path) or _agent(task, "agent_class", path),
        wants=_merged(own, {item.text for item in marked}, inherited),
        external=frozenset(wanted.key for wanted in external),
        produces=produces,
        optional_results=tuple(_strings(task, "optional_result_keys", path)),
        optional_wants=marked,
        array_paths=arrays,
        expansion=expansion,
        expanded=raw is not None,
        names_array=names_array,
        retries_never=_retries_never(task.get("retry")),
        tolerates_itself=config is None and _tolerates(task.get("tolerated_failures")),
        flow=flow,
    )


def _merged(own: list[RequestedKey], marked: set[str], inherited: list[RequestedKey]) -> tuple[RequestedKey, ...]:
    """One entry for each key. Within a task any ``?`` makes it optional; the group may make it required."""
    keys: dict[str, RequestedKey] = {}
    optional = marked | {wanted.key for wanted in own if wanted.optional}
    for wanted in own:
        keys.setdefault(wanted.key, RequestedKey(wanted.key, wanted.key in optional, wanted.path))
    return tuple(_inherit(keys, inherited).values())


def _inherit(keys: dict[str, RequestedKey], inherited: list[RequestedKey]) -> dict[str, RequestedKey]:
    for wanted in inherited:
        known = keys.get(wanted.key)
        if known is None or (known.optional and not wanted.optional):
            keys[wanted.key] = wanted
    return keys


def _retries_never(retry: Any) -> bool:
    if not isinstance(retry, Mapping) or retry.get("max_attempts") in (None, 1):
        return False
    return retry.get("strategy") in (None, "none")


def _tolerates(failures: Any) -> bool:
    if isinstance(failures, str):
        # Any digit but 0: "0%" and "0.0%" tolerate nothing.
        return failures.rstrip().endswith("%") and any(digit in failures[:100] for digit in "123456789")
    return isinstance(failures, int) and failures > 0


def _default_result(task: Mapping[str, Any], path: Path) -> tuple[Declared, ...]:
    if task.get("result_keys") is not None or (name := default_result(task)) is None:
        return ()
    return (Declared(name, (*path, "name")),)


def _expansion(config: Mapping[str, Any]) -> Expansion | None:
    try:
        return Expansion.model_validate(config)
    except ValidationError:  # reported, with its place, by the schema check of the whole request
        return None


def _may_expand_alone(config: Mapping[str, Any]) -> bool:
    """``_expands_alone`` for a document that may be unreadable."""
    rules = config.get("transform_rules")
    sequences = rules.get("sequence") if isinstance(rules, Mapping) else None
    return bool(
        config.get("array_mapping")
        or (config.get("type") == "matrix" and config.get("include"))
        or (config.get("type") == "custom" and sequences)
    )


def _array_paths(raw: Mapping[str, Any], expansion: Expansion | None, path: Path) -> Iterator[Declared]:
    mapping = raw.get("array_mapping")
    mapped = mapping if isinstance(mapping, Mapping) else {}
    known = mapped if expansion is None else sources(expansion)
    for variable, source in known.items():
        text = array_source(source)
        if isinstance(text, str):
            place = (*path, "array_mapping", variable) if variable in mapped else (*path, "transform_rules")
            yield Declared(text, place)


def _wanted(document: Mapping[str, Any], name: str, path: Path) -> Iterator[RequestedKey]:
    for item in _strings(document, name, path):
        key, optional = split_optional(item.text)
        yield RequestedKey(key, optional, item.path)


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


def _agent(task: Mapping[str, Any], name: str, path: Path) -> Declared | None:
    """The agent that a task names; one that it chooses by a capability as the text that stands for it."""
    value = task.get(name)
    if isinstance(value, Mapping) and isinstance(value.get("capability"), str):
        return Declared(CAPABILITY + value["capability"], (*path, name, "capability"))
    return _declared(task, name, path)


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else ()
