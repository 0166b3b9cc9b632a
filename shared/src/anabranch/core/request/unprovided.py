"""Finds placeholders without a value: a template would keep their text unchanged, usually by mistake. Pure.

Reports only what is certain before the run. Fields of items and values that tasks or external producers will
provide are not known. Text in braces that is not a name (JSON, code), `${HOME}` and LaTeX are not placeholders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from anabranch.core.errors import Code, Problem
from anabranch.core.names import leading_keys
from anabranch.core.request.context_view import ContextView
from anabranch.core.request.envelope import Path as Place
from anabranch.core.request.flow_links import FlowLinks
from anabranch.core.request.graph import Graph
from anabranch.core.request.planning import Plan, PlannedTask, own_names
from anabranch.core.templates import MISSING, SYSTEM_NAMES, Path, placeholders_with_text

FIELDS = ("message_template", "shared_instructions", "inputs")
SAMPLED = 200
"""Members that are examined; later members of a wider expansion may have other fields."""
MAX_SHOWN = 50
"""Placeholders whose warning is shown in full."""

_NAME = re.compile(r"[^\W\d][\w-]*(\.[\w-]+)*")
_CODE_BEFORE = re.compile(r"(\$|[\^_}]|\\\w+)$")
"""Characters before braces of shell or LaTeX syntax."""


def unprovided(plan: Plan, graph: Graph, context: ContextView, pointer: Callable[[Place], str]) -> list[Problem]:
    """The problem of each placeholder that will not be replaced, with its path in the request."""
    found: list[Problem] = []
    for index, task in enumerate(plan.tasks):
        names = _Names(task, index, graph, context)
        for field in FIELDS:
            for name in _written(getattr(task.spec, field)):
                if not names.may_have_value(name):
                    found.append(_problem(task, field, name, pointer((*graph.tasks[index].path, field))))
    return found


def as_warnings(problems: Iterable[Problem]) -> list[str]:
    """The problems as warnings: the first ones in full, then the number of the others."""
    warnings = [f"{each.message}; {each.hint}" for each in problems]
    more = len(warnings) - MAX_SHOWN
    return warnings if more <= 0 else [*warnings[:MAX_SHOWN], f"{more:,} more placeholders have no value"]


def _problem(task: PlannedTask, field: str, name: str, path: str) -> Problem:
    message = f"the placeholder {{{name}}} in the {field} of {task.label} has no value, so its text stays as it is"
    hint = f"correct the name, add its key to the dependencies, or write {{{{{name}}}}} for the literal text"
    return Problem(Code.UNKNOWN_PLACEHOLDER, path, message, hint)


def _written(template: Any) -> Iterator[str]:
    """The distinct placeholder names of a template."""
    if template is None:
        return
    found = (name for before, name in placeholders_with_text(template) if _CODE_BEFORE.search(before) is None)
    yield from (name for name in dict.fromkeys(found) if _NAME.fullmatch(name))


class _Names:
    """Names that a task's templates may use."""

    def __init__(self, task: PlannedTask, index: int, graph: Graph, context: ContextView) -> None:
        self._index = index
        self._needs = {need.key for need in task.needs if need.kind != "context"}
        self._own = own_names(task.spec)
        self._graph = graph
        self._context = context
        self._scopes = _scopes(task)

    def may_have_value(self, name: str) -> bool:
        """True if a placeholder has a value before the run, or may get one during the run."""
        # The key of a context is looked up before its value: most names are keys, and need no value.
        if name in SYSTEM_NAMES or name in self._context or Path(name).find(self._context) is not MISSING:
            return True
        keys = set(leading_keys(name))
        flow = self._graph.flow
        if flow is not None and flow.is_own(self._index, name):
            return not self._is_unknown_state(flow, name)
        if flow is not None and any(flow.producers_of(key, self._index) for key in keys):
            return True
        if keys & self._needs or any(key in self._graph.producers for key in keys):
            # The value is not known before the run. An undeclared key of another task has a warning of its own.
            return True
        if self._scopes is None:
            return True
        if not self._scopes:
            return bool(keys & self._own)
        path = Path(name)
        return any(path.find(scope) is not MISSING for scope in self._scopes)

    def _is_unknown_state(self, flow: FlowLinks, name: str) -> bool:
        """True for a state that no loop around the task declares."""
        first, _, state = name.partition(".")
        loops = (self._graph.tasks[each].flow for each in (self._index, *flow.loops[self._index]))
        declared = {each.text for loop in loops if loop is not None for each in loop.states}
        return first == "state" and state != "" and declared.isdisjoint(leading_keys(state))


def _scopes(task: PlannedTask) -> list[Mapping[str, Any]] | None:
    """The item fields of each member. Empty for a task without expansion or members; None if the fields of some
    items are not known."""
    if task.spec.expansion_config is None:
        return []
    if task.expanded is None or task.expanded.count > SAMPLED:
        return None
    return [member.scope for member in task.expanded.members(0, SAMPLED)]
