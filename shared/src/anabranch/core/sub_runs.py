"""What a sub-run is requested with, and what of its results its parent gets. Pure.

The `context` of a sub-run is a template like `inputs` of a task. Its `request` is one too, but a name that the
child defines itself belongs to the child: a key of its context, a result, a variable of an expansion, a system
name. A text without a placeholder of the parent stays exactly as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from anabranch.core.errors import ResultError
from anabranch.core.request.flow import SubRun
from anabranch.core.templates import (
    MISSING,
    SYSTEM_NAMES,
    Path,
    RenderBudget,
    compile_template,
    placeholders,
)

MAX_DEPTH = 8
"""A run may be nested in so many runs as a sub-run."""
TOO_DEEP, FAILED, CANCELLED, REJECTED = "SubRunTooDeep", "SubRunFailed", "SubRunCancelled", "SubRunRejected"
"""Error types of a member whose sub-run did not complete."""


def mentioned_names(sub_run: SubRun) -> frozenset[str]:
    """The names in the placeholders of a sub-run, those of the child included."""
    return placeholders(sub_run.context) | placeholders(sub_run.request or {})


def rendered_context(sub_run: SubRun, scope: Mapping[str, Any]) -> dict[str, Any]:
    """The context that a member's sub-run gets.

    Raises:
        RenderedTooLarge: it is over the limit of a rendered template.
    """
    context: dict[str, Any] = compile_template(sub_run.context, typed=True).render(scope, RenderBudget())
    return context


def rendered_request(sub_run: SubRun, scope: Mapping[str, Any]) -> dict[str, Any] | None:
    """The request of a member's sub-run; None if it is that of a definition.

    Raises:
        RenderedTooLarge: it is over the limit of a rendered template.
    """
    if sub_run.request is None:
        return None
    hidden = names_of_child(sub_run.request, sub_run.context)
    budget = RenderBudget()
    request: dict[str, Any] = _rendered(sub_run.request, _Visible(scope, hidden), budget)
    return request


def names_of_child(request: Mapping[str, Any], context: Iterable[str]) -> frozenset[str]:
    """The names in the templates of a request that belong to the child; its parent gives `context`."""
    return frozenset((*SYSTEM_NAMES, *context, *_defined(request)))


class _Visible(Mapping[str, Any]):
    """A scope without some of its names."""

    def __init__(self, scope: Mapping[str, Any], hidden: frozenset[str]) -> None:
        self._scope = scope
        self._hidden = hidden

    def get(self, name: str, default: Any = None) -> Any:
        return default if name in self._hidden else self._scope.get(name, default)

    def __getitem__(self, name: str) -> Any:
        if name in self._hidden:
            raise KeyError(name)
        return self._scope[name]

    def __contains__(self, name: object) -> bool:
        return name not in self._hidden and name in self._scope

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._scope if name not in self._hidden)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _rendered(template: Any, scope: Mapping[str, Any], budget: RenderBudget) -> Any:
    if isinstance(template, str):
        if all(Path(name).find(scope) is MISSING for name in placeholders(template)):
            return template
        return compile_template(template, typed=True).render(scope, budget)
    if isinstance(template, dict):
        return {key: _rendered(value, scope, budget) for key, value in template.items()}
    if isinstance(template, list):
        return [_rendered(value, scope, budget) for value in template]
    return template


_NAMING = ("array_mapping", "identifiers", "sequence", "state")
"""Fields of a request whose keys are names in its templates."""


def _defined(document: Any) -> Iterator[str]:
    """The names that a request defines for its own templates, wherever they are in it."""
    if isinstance(document, list):
        for each in document:
            yield from _defined(each)
    if not isinstance(document, Mapping):
        return
    if "task_groups" in document and isinstance(document.get("context"), Mapping):
        yield from document["context"]
    if isinstance(keys := document.get("result_keys"), list):
        yield from (key for key in keys if isinstance(key, str))
    elif isinstance(name := document.get("name"), str):
        yield name
    if "expansion_config" in document or "each" in document:
        yield from ("item", "iteration", "last")
    for field in _NAMING:
        if isinstance(names := document.get(field), Mapping):
            yield from names
    for value in document.values():
        yield from _defined(value)


def values_of_child(
    sub_run: SubRun, result_keys: Sequence[str], optional: Sequence[str], results: Mapping[str, Any]
) -> list[Any]:
    """The value of each result key of a task whose sub-run completed with `results`.

    With one result key it is an object of the results, or of those in `outputs`; with several, each key is the
    result of that name, and null if an optional one is missing.

    Raises:
        ResultError: a result is missing.
    """
    wanted = sub_run.outputs
    if wanted is None:
        found = dict(results)
    else:
        found = {key: results[key] for key in wanted if key in results}
        if missing := [key for key in wanted if key not in found]:
            raise ResultError(f"the sub-run has no result {', '.join(map(repr, missing))}", missing)
    if len(result_keys) == 1:
        return [found]
    if missing := [key for key in result_keys if key not in found and key not in optional]:
        raise ResultError(f"the sub-run has no result {', '.join(map(repr, missing))}", missing)
    return [found.get(key) for key in result_keys]
