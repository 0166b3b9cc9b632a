"""Finds the keys of earlier steps that the templates of a step mention. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anabranch.core.names import leading_keys
from anabranch.core.request.flow import LOOP_NAMES
from anabranch.core.request.task_spelling import split_optional
from anabranch.core.templates import SYSTEM_NAMES, placeholders

_TEMPLATES = ("message_template", "shared_instructions", "inputs")
_WAITS = ("for", "until", "signal", "value", "event", "approval")


def with_mentioned(step: dict[str, Any], keys: Mapping[str, None], *, in_loop: bool) -> dict[str, Any]:
    """Add the keys that a step mentions to its dependencies, as optional ones. Changes and returns its document.

    Args:
        keys: those of the steps before it.
    """
    known = step.get("dependencies")
    if not keys or not isinstance(known, (list, tuple, type(None))):
        return step
    hidden = {*_variables(step), *SYSTEM_NAMES, *(LOOP_NAMES if in_loop else ())}
    declared = {split_optional(key)[0] for key in known or () if isinstance(key, str)}
    found: dict[str, None] = {}
    for text in sorted({text for template in _templates(step) for text in placeholders(template)}):
        if text.partition(".")[0] not in hidden:
            key = next((key for key in leading_keys(text) if key in keys or key in declared), None)
            if key is not None and key not in declared:
                found[f"{key}?"] = None
    if found:
        step["dependencies"] = [*(known or ()), *found]
    return step


def _templates(step: Mapping[str, Any]) -> Iterator[Any]:
    yield from (step[name] for name in _TEMPLATES if step.get(name) is not None)
    wait, run, undo = (_object(step.get(name)) for name in ("wait", "run", "compensate"))
    yield from (wait[name] for name in _WAITS if wait.get(name) is not None)
    state = _object(step.get("loop")).get("state")
    yield from (part for part in (run.get("context"), undo.get("inputs"), state) if part is not None)


def _variables(step: Mapping[str, Any]) -> Iterator[str]:
    """The names of the step's own expansion, which hide keys."""
    expansion = _object(step.get("expansion_config"))
    for name in ("array_mapping", "identifiers"):
        yield from (str(key) for key in _object(expansion.get(name)))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
