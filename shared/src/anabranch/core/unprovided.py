"""Placeholders that nothing provides: their text stays as it is written, which is hardly ever meant. Pure.

Only what is certain before the run is told. Fields of items that the run will produce are not known, nor are those
of values that tasks or others outside give; text that is no name in braces (JSON, code) is no placeholder, and
neither is `${HOME}` or LaTeX.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from anabranch.core.envelope import Path as Place
from anabranch.core.errors import Code, Problem
from anabranch.core.graph import Graph
from anabranch.core.names import leading_keys
from anabranch.core.planning import Plan, PlannedTask, own_names
from anabranch.core.templates import MISSING, SYSTEM_NAMES, Path, placed

FIELDS = ("message_template", "shared_instructions", "inputs")
SAMPLED = 200
"""Members that are looked at; a wider expansion may have fields further on."""
MOST_TOLD = 50

_NAME = re.compile(r"[^\W\d][\w-]*(\.[\w-]+)*")
_CODE_BEFORE = re.compile(r"(\$|[\^_}]|\\\w+)$")
"""What stands before braces that belong to a shell or to LaTeX."""


def unprovided(plan: Plan, graph: Graph, pointer: Callable[[Place], str]) -> list[Problem]:
    """Each placeholder of the plan that will not be replaced, with its place in the document as sent."""
    context = plan.visible_context()
    found: list[Problem] = []
    for index, task in enumerate(plan.tasks):
        names = _Names(task, graph, context)
        for field in FIELDS:
            for name in _written(getattr(task.spec, field)):
                if not names.provide(name):
                    found.append(_problem(task, field, name, pointer((*graph.tasks[index].path, field))))
    return found


def words(problems: Iterable[Problem]) -> list[str]:
    """The problems as warnings, the first ones whole."""
    told = [f"{each.message}; {each.hint}" for each in problems]
    more = len(told) - MOST_TOLD
    return told if more <= 0 else [*told[:MOST_TOLD], f"{more:,} more placeholders are provided by nothing"]


def _problem(task: PlannedTask, field: str, name: str, path: str) -> Problem:
    message = f"nothing provides {{{name}}} in the {field} of {task.label}, so its text stays as it is"
    hint = f"correct the name, add its key to the dependencies, or write {{{{{name}}}}} for the literal text"
    return Problem(Code.UNKNOWN_PLACEHOLDER, path, message, hint)


def _written(template: Any) -> Iterator[str]:
    """The names in a template, each once."""
    if template is None:
        return
    found = (name for before, name in placed(template) if _CODE_BEFORE.search(before) is None)
    yield from (name for name in dict.fromkeys(found) if _NAME.fullmatch(name))


class _Names:
    """What a task's templates may name."""

    def __init__(self, task: PlannedTask, graph: Graph, context: Mapping[str, Any]) -> None:
        self._needs = {need.key for need in task.needs if need.kind != "context"}
        self._own = own_names(task.spec)
        self._graph = graph
        self._context = context
        self._scopes = _scopes(task)

    def provide(self, name: str) -> bool:
        """Whether a value is there, or may come to be there, for a placeholder."""
        if name in SYSTEM_NAMES or Path(name).find(self._context) is not MISSING:
            return True
        keys = set(leading_keys(name))
        if keys & self._needs or any(key in self._graph.producers for key in keys):
            return True  # a need's value is not known; a produced key that is no need has a warning of its own
        if self._scopes is None:
            return True
        if not self._scopes:
            return bool(keys & self._own)
        path = Path(name)
        return any(path.find(scope) is not MISSING for scope in self._scopes)


def _scopes(task: PlannedTask) -> list[Mapping[str, Any]] | None:
    """The own names of each member. Nothing of an ordinary task or one without members; None where the fields of
    some items are not known."""
    if task.spec.expansion_config is None:
        return []
    if task.expanded is None or task.expanded.count > SAMPLED:
        return None
    return [member.scope for member in task.expanded.members(0, SAMPLED)]
