"""The compatibility envelope: ``{"key", "action", "object", "context"}`` around a request.

Unwraps the request, drops unknown fields, and records the original place of each part, so that the path of a
problem points into the document as it was sent. Validates only the envelope.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from anabranch.core.errors import Code, Problem
from anabranch.core.request.lowering import is_spelled, lowered
from anabranch.core.request.models import (
    Expansion,
    Request,
    RetryPolicy,
    Sequence,
    TaskGroup,
    TaskSpec,
    TransformRules,
)
from anabranch.core.request.sent import Path as Path
from anabranch.core.request.sent import Sent as Sent
from anabranch.core.request.sent import json_pointer as json_pointer

_KEY_PREFIX = "task_group:"
_ENVELOPE_FIELDS = frozenset({"key", "action", "object", "context"})
_REQUEST_FIELDS = (frozenset(Request.model_fields) | {"finally", "steps"}) - {"finally_"}
_GROUP_FIELDS = frozenset(TaskGroup.model_fields) | {"when", "sequential", "loop", "switch"}
_TASK_FIELDS = frozenset(TaskSpec.model_fields) | {"agent_class"}


def is_envelope(document: Mapping[str, Any]) -> bool:
    """A request has no field ``object``; an envelope has one, and no ``task_groups`` or ``steps`` beside it."""
    return "object" in document and "task_groups" not in document and "steps" not in document


def unwrap(document: Mapping[str, Any]) -> Sent:
    """The request in an envelope, or the document itself if it is not an envelope; lowered, see ``lowering``."""
    sent = _unwrapped(document) if "object" in document and is_envelope(document) else Sent(document)
    return _lowered(sent) if is_spelled(sent.request) else sent


def _lowered(sent: Sent) -> Sent:
    found = lowered(sent.request)
    moved = {**sent.moved, **{path: sent.origin(origin) for path, origin in found.moved.items()}}
    errors = (*sent.errors, *found.problems.made(sent.pointer))
    return replace(sent, request=found.request, moved=moved, errors=errors, depth=max(map(len, moved), default=2))


def _unwrapped(document: Mapping[str, Any]) -> Sent:
    inner = document["object"]
    if not isinstance(inner, Mapping):
        problem = Problem(Code.SCHEMA, "/object", "`object` is not an object", "it holds the request")
        return Sent({}, ("object",), errors=(problem, *_envelope_problems(document)))
    ignored = dict.fromkeys(_ignored_in_envelope(document))
    request = _known_fields(inner, ignored)
    moved: dict[Path, Path] = {}
    _take_context(document, inner, request, moved)
    warnings = _take_key(document, request, moved)
    if ignored:
        warnings.append("ignored fields that a request does not have: " + ", ".join(ignored))
    return Sent(request, ("object",), moved, tuple(_envelope_problems(document)), tuple(warnings))


def _envelope_problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    action = document.get("action")
    if action not in (None, "initialize"):
        yield Problem(
            Code.NOT_SUPPORTED,
            "/action",
            f"the action {action!r} is not supported yet",
            'only "initialize" is; to act on a run, send a control record such as {"type": "cancel"}',
        )
    if not isinstance(document.get("key"), str | None):
        yield Problem(Code.SCHEMA, "/key", "`key` is not a string", 'it has the form "task_group:<id>"')
    context = document.get("context")
    if not isinstance(context, Mapping | None):
        yield Problem(Code.SCHEMA, "/context", "`context` is not an object", 'the values are in "context.context"')


def _ignored_in_envelope(document: Mapping[str, Any]) -> Iterator[str]:
    yield from (str(name) for name in document if name not in _ENVELOPE_FIELDS)
    context = document.get("context")
    if isinstance(context, Mapping):
        yield from (f"context.{name}" for name in context if name != "context")


def _take_context(
    document: Mapping[str, Any], inner: Mapping[str, Any], request: dict[str, Any], moved: dict[Path, Path]
) -> None:
    """Merge ``context.context`` over ``object.context``."""
    outer = document.get("context")
    values = outer.get("context") if isinstance(outer, Mapping) else None
    if values is None:
        return
    own = inner.get("context")
    if isinstance(values, Mapping) and isinstance(own, Mapping):
        request["context"] = {**own, **values}
        moved.update({("context", key): ("context", "context", key) for key in values})
        return
    request["context"] = values
    moved[("context",)] = ("context", "context")


def _take_key(document: Mapping[str, Any], request: dict[str, Any], moved: dict[Path, Path]) -> list[str]:
    key = document.get("key")
    if not isinstance(key, str):
        return []
    request_id = key.removeprefix(_KEY_PREFIX)
    other = request.get("request_id")
    request["request_id"] = request_id
    moved[("request_id",)] = ("key",)
    if other in (None, request_id):
        return []
    return [f"the request id is {request_id!r}, from `key`; `object.request_id` {other!r} is ignored"]


def _known_fields(inner: Mapping[str, Any], ignored: dict[str, None]) -> dict[str, Any]:
    request = _keep(inner, _REQUEST_FIELDS, "object", ignored)
    groups = request.get("task_groups")
    if isinstance(groups, list):
        request["task_groups"] = [_known_in_group(group, ignored) for group in groups]
    return request


def _known_in_group(group: Any, ignored: dict[str, None]) -> Any:
    if not isinstance(group, Mapping):
        return group
    where = "object.task_groups[]"
    kept = _keep(group, _GROUP_FIELDS, where, ignored)
    if isinstance(kept.get("tasks"), list):
        kept["tasks"] = [_known_in_task(task, f"{where}.tasks[]", ignored) for task in kept["tasks"]]
    return kept


def _known_in_task(task: Any, where: str, ignored: dict[str, None]) -> Any:
    if not isinstance(task, Mapping):
        return task
    kept = _keep(task, _TASK_FIELDS, where, ignored)
    _keep_inside(kept, "retry", RetryPolicy, where, ignored)
    _keep_inside(kept, "expansion_config", Expansion, where, ignored)
    expansion = kept.get("expansion_config")
    if isinstance(expansion, dict):
        _keep_inside(expansion, "transform_rules", TransformRules, f"{where}.expansion_config", ignored)
        _known_in_sequences(expansion.get("transform_rules"), where, ignored)
    return kept


def _known_in_sequences(rules: Any, where: str, ignored: dict[str, None]) -> None:
    sequences = rules.get("sequence") if isinstance(rules, dict) else None
    if isinstance(sequences, Mapping):
        inside = dict(sequences)  # a copy: the caller's document must not change
        for name in inside:
            _keep_inside(inside, name, Sequence, f"{where}.expansion_config.transform_rules.sequence", ignored)
        rules["sequence"] = inside


def _keep_inside(
    parent: dict[str, Any],
    name: str,
    model: type[RetryPolicy | Expansion | TransformRules | Sequence],
    where: str,
    ignored: dict[str, None],
) -> None:
    if isinstance(parent.get(name), Mapping):
        parent[name] = _keep(parent[name], frozenset(model.model_fields), f"{where}.{name}", ignored)


def _keep(
    document: Mapping[str, Any], known: frozenset[str], where: str, ignored: dict[str, None]
) -> dict[str, Any]:
    ignored.update({f"{where}.{name}": None for name in document if name not in known})
    return {name: value for name, value in document.items() if name in known}
