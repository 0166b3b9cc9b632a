"""Converts canvases of Celery: signatures as JSON, with `chain`, `group`, `chord`, `map`, `starmap`, `chunks`.

Each signature becomes a task, whose agent has the name of the Celery task and gets `{args, kwargs}`. Results are
passed on as in Celery: the result of a step of a chain is the first argument of the next one, unless that one is
immutable; a group gives a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from anabranch.core.names import name_problem
from anabranch.core.pipelines.conversion import Conversion, Findings, Path, mapping
from anabranch.core.templates import literal

_FIELDS = ("task", "args", "kwargs", "options", "subtask_type", "immutable", "chord_size")
_INTERNAL = ("chord", "group_id", "group_index", "parent_id", "root_id", "reply_to", "task_id", "origin")
_LEFT_OUT = (
    "compression", "delivery_mode", "exchange", "headers", "ignore_result", "priority", "retry",
    "retry_policy", "routing_key", "serializer", "shadow", "stamped_headers", "track_started", "add_to_parent",
)  # fmt: skip
_SPREADS = ("map", "starmap", "chunks")
_MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a part of the canvas.

    Attributes:
        value: the template of its result: a key, or a list of such templates.
        tasks: the tasks that have to complete.
        keys: the keys that the value names.
        members: the ends of the members of a group.
    """

    value: Any = None
    tasks: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    members: tuple[_End, ...] = ()


@dataclass(frozen=True, slots=True)
class _Start:
    """What comes before a part of the canvas. Without tasks, the part begins at once."""

    before: _End = field(default_factory=_End)
    has_value: bool = False


def convert_canvas(canvas: Any) -> Conversion:
    """Convert a signature; a list is a chain of its signatures."""
    converter = _Canvas()
    path: Path = ()
    if isinstance(canvas, list):
        converter.chain(canvas, path, _Start())
    else:
        converter.part(canvas, path, _Start())
    if not converter.tasks and not converter.findings.errors:
        converter.findings.wrong(path, "the canvas has no task")
    return converter.findings.result({"task_groups": [{"name": "canvas", "tasks": converter.tasks}]})


class _Canvas:
    def __init__(self) -> None:
        self.findings = Findings()
        self.tasks: list[dict[str, Any]] = []
        self._names: set[str] = set()
        self._depth = 0

    def part(self, given: Any, path: Path, start: _Start) -> _End:
        """Convert a signature of any kind."""
        signature = mapping(self.findings, path, given)
        name = signature.get("task")
        if not isinstance(name, str) or not name:
            self.findings.wrong(path, "a signature has the name of a `task`")
            return start.before
        self.findings.unknown_fields(path, signature, _FIELDS)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self.findings.unsupported(path, f"is nested over {_MAX_DEPTH} levels deep")
            self._depth -= 1
            return start.before
        try:
            return self._of_kind(_kind(signature), signature, path, start)
        finally:
            self._depth -= 1

    def _of_kind(self, kind: str, signature: Mapping[str, Any], path: Path, start: _Start) -> _End:
        kwargs = mapping(self.findings, (*path, "kwargs"), signature.get("kwargs"))
        if kind != "task":
            self._check_options_of_canvas(signature, path)
        if kind == "chain":
            return self.chain(kwargs.get("tasks"), (*path, "kwargs", "tasks"), start)
        if kind == "group":
            return self._group(kwargs.get("tasks"), (*path, "kwargs", "tasks"), start)
        if kind == "chord":
            return self._chord(kwargs, (*path, "kwargs"), start)
        if kind in _SPREADS:
            return self._spread(kind, kwargs, path, start)
        return self._task(signature, kwargs, path, start)

    def chain(self, tasks: Any, path: Path, start: _Start) -> _End:
        """Signatures one after another."""
        end = start.before
        has_value = start.has_value
        for number, each in enumerate(self._listed(tasks, path)):
            end = self.part(each, (*path, number), _Start(end, has_value))
            has_value = True
        return end

    def _group(self, tasks: Any, path: Path, start: _Start) -> _End:
        if isinstance(tasks, dict) and _kind(tasks) == "group":
            return self.part(tasks, path, start)
        members: list[_End] = []
        for number, each in enumerate(self._listed(tasks, path)):
            end = self.part(each, (*path, number), start)
            # Members of a group in a group are members of the outer one, as in Celery.
            is_group = isinstance(each, dict) and _kind(each) == "group"
            members += end.members if is_group else [end]
        return _joined(members)

    def _chord(self, kwargs: Mapping[str, Any], path: Path, start: _Start) -> _End:
        self.findings.unknown_fields(path, kwargs, ("header", "body", "kwargs", "args", "options"))
        header = self._group(kwargs.get("header"), (*path, "header"), start)
        return self.part(kwargs.get("body"), (*path, "body"), _Start(header, has_value=True))

    def _listed(self, tasks: Any, path: Path) -> list[Any]:
        if not isinstance(tasks, list) or not tasks:
            self.findings.wrong(path, "must be a list of at least one signature")
            return []
        return tasks

    # --- one task ------------------------------------------------------------------------------------------

    def _task(self, signature: Mapping[str, Any], kwargs: Mapping[str, Any], path: Path, start: _Start) -> _End:
        args = signature.get("args") or []
        if not isinstance(args, list):
            self.findings.wrong((*path, "args"), "must be a list")
            args = []
        takes = start.has_value and not signature.get("immutable")
        first = [start.before.value] if takes else []
        inputs = {"args": [*first, *map(_literal, args)], "kwargs": _literal(dict(kwargs))}
        options = mapping(self.findings, (*path, "options"), signature.get("options"))
        start = self._delayed(options, (*path, "options"), start)
        end = self._add(str(signature["task"]), inputs, path, start, start.before.keys if takes else ())
        self.tasks[-1] |= self._options(options, (*path, "options"))
        return self._linked(options.get("link"), (*path, "options", "link"), end)

    def _add(self, agent: str, inputs: Any, path: Path, start: _Start, keys: Sequence[str]) -> _End:
        if (problem := name_problem(agent)) is not None:
            self.findings.wrong((*path, "task"), f"cannot be the name of an agent: {problem}")
        name = self._free_name(agent.rpartition(".")[2] or agent)
        task: dict[str, Any] = {"name": name, "agent": agent, "inputs": inputs}
        if keys:
            task["dependencies"] = list(dict.fromkeys(keys))
        if after := [each for each in start.before.tasks if each not in keys]:
            task["after"] = after
        self.tasks.append(task)
        return _End("{" + name + "}", (name,), (name,))

    def _free_name(self, wanted: str) -> str:
        # A name is a result key as well, which has no braces.
        wanted = wanted.replace("{", "(").replace("}", ")")[:240]
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}-{number}"
        self._names.add(name)
        return name

    def _spread(self, kind: str, kwargs: Mapping[str, Any], path: Path, start: _Start) -> _End:
        """`map`, `starmap` and `chunks`: one task for each item, whose results are a list."""
        path = (*path, "kwargs")
        self.findings.unknown_fields(path, kwargs, ("task", "it", "n") if kind == "chunks" else ("task", "it"))
        inner = mapping(self.findings, (*path, "task"), kwargs.get("task"))
        items, size = kwargs.get("it"), kwargs.get("n")
        if not isinstance(items, list) or not items or not isinstance(inner.get("task"), str):
            self.findings.wrong(path, "must have a signature `task` and a list `it` of at least one item")
            return start.before
        if inner.get("args") or inner.get("kwargs"):
            self.findings.unsupported((*path, "task"), "arguments of the spread task are not supported")
        self._check_options_of_canvas(inner, (*path, "task"))
        if kind != "chunks":
            return self._expanded(kind, inner, items, path, start)
        if type(size) is not int or size < 1:
            self.findings.wrong((*path, "n"), "must be a number of at least 1")
            return start.before
        parts = [items[at : at + size] for at in range(0, len(items), size)]
        return _joined([self._expanded("starmap", inner, each, path, start) for each in parts])

    def _expanded(self, kind: str, inner: Mapping[str, Any], items: list[Any], path: Path, start: _Start) -> _End:
        if kind == "starmap" and not all(isinstance(each, list) for each in items):
            self.findings.wrong((*path, "it"), "must be a list of lists of arguments")
        inputs: dict[str, Any] = {"args": ["{item}"] if kind == "map" else "{item}", "kwargs": {}}
        end = self._add(inner["task"], inputs, (*path, "task"), start, ())
        self.tasks[-1]["expansion_config"] = {
            "type": "array", "array_mapping": {"item": items}, "output_format": "index",
        }  # fmt: skip
        return end

    # --- options -------------------------------------------------------------------------------------------

    def _options(self, options: Mapping[str, Any], path: Path) -> dict[str, Any]:
        task: dict[str, Any] = {}
        for name, value in options.items():
            where = (*path, name)
            if value is None or name in (*_INTERNAL, "link", "countdown", "eta"):
                continue
            if name == "queue" and isinstance(value, str):
                task["pool"] = value
            elif name == "time_limit" and _is_positive(value):
                task["timeout"] = value
            elif name == "soft_time_limit" and _is_positive(value):
                task.setdefault("timeout", value)
            elif name == "link_error":
                self.findings.unsupported(
                    where, "error callbacks are not converted", "add a task with its `error_key`"
                )
            elif name in _LEFT_OUT:
                self.findings.warn(where, "is left out: it has no counterpart in a request")
            else:
                self.findings.unsupported(where, f"the option {name!r} cannot be converted", "leave it out")
        if "time_limit" in options and _is_positive(options["time_limit"]):
            task["timeout"] = options["time_limit"]
        return task

    def _delayed(self, options: Mapping[str, Any], path: Path, start: _Start) -> _Start:
        """`countdown` and `eta` become a task that waits."""
        for name, kind in (("countdown", "for"), ("eta", "until")):
            if (value := options.get(name)) is None:
                continue
            is_time = _is_positive(value) or value == 0 if name == "countdown" else isinstance(value, str)
            if not is_time:
                self.findings.wrong(
                    (*path, name), "must be a number of seconds" if kind == "for" else "must be a time"
                )
                continue
            waits = self._free_name(f"wait-{len(self.tasks) + 1}")
            task: dict[str, Any] = {"name": waits, "wait": {kind: value}}
            if start.before.tasks:
                task["after"] = list(start.before.tasks)
            self.tasks.append(task)
            start = replace(start, before=replace(start.before, tasks=(waits,)))
        return start

    def _linked(self, links: Any, path: Path, end: _End) -> _End:
        """`link`: signatures that follow the task and give the canvas no value."""
        for number, each in enumerate(links if isinstance(links, list) else [] if links is None else [links]):
            self.part(each, (*path, number), _Start(end, has_value=True))
        return end

    def _check_options_of_canvas(self, signature: Mapping[str, Any], path: Path) -> None:
        options = mapping(self.findings, (*path, "options"), signature.get("options"))
        for name, value in options.items():
            if value is not None and name not in _INTERNAL:
                self.findings.unsupported(
                    (*path, "options", name),
                    f"the option {name!r} is of no single task, and cannot be converted",
                    "set it on the signatures of tasks",
                )
        if signature.get("args"):
            self.findings.unsupported((*path, "args"), "arguments of no single task cannot be converted")


def _kind(signature: Mapping[str, Any]) -> str:
    for kind in ("chain", "group", "chord", *_SPREADS):
        if signature.get("subtask_type") == kind or signature.get("task") == f"celery.{kind}":
            return kind
    return "task"


def _joined(ends: Sequence[_End]) -> _End:
    return _End(
        [each.value for each in ends],
        tuple(dict.fromkeys(name for each in ends for name in each.tasks)),
        tuple(dict.fromkeys(key for each in ends for key in each.keys)),
        tuple(ends),
    )


def _literal(value: Any) -> Any:
    """A value of the canvas as a template that gives exactly this value."""
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, list):
        return [_literal(each) for each in value]
    if isinstance(value, dict):
        return {name: _literal(each) for name, each in value.items()}
    return value


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
