"""Checks the requests that tasks start as sub-runs, as far as they are known before the run. Pure.

A request is checked as it is written. A placeholder of the parent may stand for anything, so a request that has
one where the text itself matters, such as in a name, is checked only when it is filled in, as the sub-run starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from anabranch.core.errors import Problem
from anabranch.core.request.envelope import Path
from anabranch.core.request.graph import SessionKeys
from anabranch.core.request.models import FINALLY
from anabranch.core.request.validation import Pointer
from anabranch.core.sub_runs import names_of_child
from anabranch.core.templates import placeholders

Check = Callable[[Mapping[str, Any], SessionKeys], Sequence[Problem]]
"""Returns the problems of a request whose session has these keys."""

_TEMPLATES = frozenset(
    {"inputs", "message_template", "instructions", "context", "labels"}
    | {"for", "until", "signal", "key", "subject", "body", "value"}
)
"""Fields of a request that may hold any text or placeholder, so what one stands for does not matter."""


def sub_run_problems(request: Mapping[str, Any], pointer: Pointer, check: Check) -> Iterator[Problem]:
    """The problems of each request of a sub-run, with their paths in the document as sent.

    Args:
        request: the document of the parent's request, which may be invalid.
    """
    for task, path in _tasks(request):
        run = task.get("run")
        inner = run.get("request") if isinstance(run, Mapping) else None
        if not isinstance(run, Mapping) or not isinstance(inner, Mapping):
            continue
        given = run.get("context")
        given = frozenset(given) if isinstance(given, Mapping) else frozenset()
        own = names_of_child(inner, given)
        if _is_filled_in(inner, own):
            continue
        base = pointer((*path, "run", "request"))
        for each in check(*_as_started(inner, given, own, has_session=run.get("session") == "shared")):
            yield replace(each, path=base + each.path)


def _tasks(request: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Path]]:
    lists: list[tuple[Any, Path]] = [(request.get(FINALLY), (FINALLY,))]
    groups = request.get("task_groups")
    for number, group in enumerate(groups if isinstance(groups, list | tuple) else ()):
        if isinstance(group, Mapping):
            lists.append((group.get("tasks"), ("task_groups", number, "tasks")))
    for tasks, path in lists:
        for index, task in enumerate(tasks if isinstance(tasks, list | tuple) else ()):
            if isinstance(task, Mapping):
                yield task, (*path, index)


def _as_started(
    inner: Mapping[str, Any], given: frozenset[str], own: frozenset[str], *, has_session: bool
) -> tuple[dict[str, Any], SessionKeys]:
    """The request without what its parent gives, and the keys that it has nevertheless. Values of its context that
    are filled in are not known, as those of a session."""
    document = {name: value for name, value in inner.items() if name != "request_id"}
    context, filled = inner.get("context"), given
    if isinstance(context, Mapping):
        filled |= {key for key, value in context.items() if _foreign(value, own)}
        document["context"] = {key: value for key, value in context.items() if key not in filled}
    if has_session or "session_id" in inner:
        return document, lambda _key: True
    return document, filled


def _is_filled_in(document: Any, own: frozenset[str]) -> bool:
    """Whether a text that is no template, but for the parent, has a placeholder of the parent."""
    if isinstance(document, Mapping):
        return any(_is_filled_in(value, own) for name, value in document.items() if name not in _TEMPLATES)
    if isinstance(document, list | tuple):
        return any(_is_filled_in(value, own) for value in document)
    return isinstance(document, str) and _foreign(document, own)


def _foreign(template: Any, own: frozenset[str]) -> bool:
    return any(not _is_own(name, own) for name in placeholders(template))


def _is_own(name: str, own: frozenset[str]) -> bool:
    """Whether a name, or what is before one of its dots, is of the child."""
    parts = name.split(".")
    return any(".".join(parts[:count]) in own for count in range(1, len(parts) + 1))
