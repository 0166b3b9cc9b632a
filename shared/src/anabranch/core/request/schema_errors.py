"""Translates pydantic's validation errors to problems: code, pointer into the document as sent, message, hint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from anabranch.core.errors import Code, Problem
from anabranch.core.request.budget_fields import Amounts
from anabranch.core.request.cache_fields import Cache
from anabranch.core.request.document import Document
from anabranch.core.request.envelope import Path
from anabranch.core.request.flow import Approval, Branch, EventWait, Loop, SubRun, Switch, Wait
from anabranch.core.request.limits import Concurrency, RateLimit
from anabranch.core.request.models import (
    Compensation,
    Expansion,
    Request,
    RetryPolicy,
    TaskGroup,
    TaskSpec,
    TransformRules,
)
from anabranch.core.request.models import Sequence as SequenceRule
from anabranch.core.request.resources import Requires
from anabranch.core.request.validation import Pointer, suggestion

DEEP_PATH = 7
"""Segments of the path that are shown for a value that is nested too deeply."""

_OWN_CODES = {Code.BAD_NAME, Code.SCHEMA, Code.TOO_DEEP}


def schema_problems(
    error: ValidationError,
    document: Mapping[str, Any],
    pointer: Pointer,
    models: Mapping[str, type[Document]] | None = None,
) -> Iterator[Problem]:
    """One problem for each place, in the order of the document's fields.

    Args:
        models: of a document that is no request: its model under "", and those of its fields by their names.
    """
    seen: set[tuple[str, str]] = set()
    for details in error.errors(include_url=False, include_context=True):
        if details["type"] == "too_short" and details["input"]:
            continue  # too short only without the invalid items, each of which has a problem of its own
        problem = _problem(details, document, pointer, models)
        # All missing fields of an object have its path.
        if (problem.code, problem.path) not in seen or details["type"] == "missing":
            seen.add((problem.code, problem.path))
            yield problem


def _problem(
    details: ErrorDetails,
    document: Mapping[str, Any],
    pointer: Pointer,
    models: Mapping[str, type[Document]] | None,
) -> Problem:
    path, rest = _locate(details["loc"], document)
    kind = details["type"]
    if kind == "missing":
        name = rest[0] if rest else "?"
        # A task without an agent may be of another kind.
        hint = "add `agent`, or `wait` or `run` in its place" if name == "agent" else f"add `{name}`"
        return Problem(Code.SCHEMA, pointer(path), f"`{name}` is missing", hint)
    if kind == "extra_forbidden":
        return _unknown_field(path, pointer, models)
    if kind == "recursion_depth_exceeded":
        path, kind = path[:DEEP_PATH], Code.TOO_DEEP.value
    code = kind if kind in _OWN_CODES else Code.SCHEMA
    place = pointer(path)
    return Problem(str(code), place, _message(place, details), _hint(kind, place, details))


def _locate(loc: Sequence[str | int], document: Any) -> tuple[Path, tuple[str | int, ...]]:
    """The part of ``loc`` that leads through the document, and what is left.

    Pydantic adds the names of union members and validators to a location. A segment that the document does not
    have is skipped, unless no later segment is in the document either.
    """
    path: list[str | int] = []
    left: list[str | int] = []
    node = document
    for part in loc:
        if _has(node, part):
            node = node[part]
            path.append(part)
            left.clear()
        else:
            left.append(part)
    return tuple(path), tuple(left)


def _has(node: Any, part: str | int) -> bool:
    if isinstance(node, Mapping):
        return part in node
    return isinstance(node, (list, tuple)) and isinstance(part, int) and 0 <= part < len(node)


def _message(pointer: str, details: ErrorDetails) -> str:
    """The message, with the name that the field has in the document as sent."""
    message = details["msg"].removeprefix("Value error, ").replace(" after validation", "")
    if details["type"] not in _OWN_CODES:
        message = _plain(details) or message[:1].lower() + message[1:]
    return f"{_subject(pointer)}: {message}"


def _subject(pointer: str) -> str:
    """What a message is about: a field by its name, an item of a list by what it is."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")]
    if len(parts) > 2 and parts[-1].isdigit() and parts[-2] in _ITEMS:
        return _ITEMS[parts[-2]]
    name = next((part for part in reversed(parts) if part and not part.isdigit()), "")
    return f"`{name or 'the request'}`"


_ITEMS = {"steps": "the step", "tasks": "the task", "finally": "the task", "task_groups": "the group"}


def _plain(details: ErrorDetails) -> str | None:
    context = details.get("ctx", {})
    match details["type"]:
        case "greater_than_equal":
            return f"must be at least {context['ge']:,}"
        case "less_than_equal":
            return f"must be at most {context['le']:,}"
        case "literal_error":
            return f"{repr(details['input'])[:100]} is none of its values"
    if "loop" in details["loc"] and "each" in details["loc"][-2:]:
        return "must be a list, or a path to one"
    return _PLAIN.get(details["type"])


_PLAIN = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "too_short": "is empty",
    "recursion_depth_exceeded": "is nested too deeply",
    "invalid-json-value": "is not a JSON value",
}


def _hint(kind: str, pointer: str, details: ErrorDetails) -> str:
    if kind == "literal_error":
        return f"one of {details['ctx']['expected']}"
    if kind in ("tuple_type", "list_type") and isinstance(details["input"], str):
        return f"write it as a list: [{details['input'][:100]}]"
    if kind in ("tuple_type", "list_type") and isinstance(details["input"], Mapping):
        return "write it as a list of one item"
    if kind in ("model_type", "dict_type"):
        example = _EXAMPLES.get(pointer.rpartition("/")[2], "")
        return example and f"such as {example}"
    if kind == "too_short":
        return "give it at least one"
    if hint := details.get("ctx", {}).get("hint"):
        return str(hint)
    if kind == Code.BAD_NAME:
        return "1 to 255 printable characters; no '/' in a name, no '{' '}' in a key or an id"
    return ""


_EXAMPLES = {
    "wait": "{for: 5m}",
    "approval": "{subject: Release it?}",
    "event": "{name: paid, key: order-1}",
    "run": "{definition: NAME}",
    "loop": "{until: CONDITION}",
    "state": "{NAME: FIRST VALUE}",
    "compensate": "{agent: NAME}",
    "requires": "{cpu: 2, memory: 8Gi}",
    "retry": "{strategy: exponential, max_attempts: 3}",
    "expansion_config": "{type: array, array_mapping: {VARIABLE: KEY}}",
    "branch": "{switch: TASK, case: 0}",
    "context": "{KEY: VALUE}",
}


def _unknown_field(path: Path, pointer: Pointer, models: Mapping[str, type[Document]] | None) -> Problem:
    name = str(path[-1]) if path else "?"
    model = _model_at(path[:-1]) if models is None else models[_name_of(path[:-1])]
    if name == "agent_class":
        message = "`agent_class` and `agent` are the same field, and differ here"
        return Problem(Code.SCHEMA, pointer(path), message, "keep one of them")
    fields = [field.alias or each for each, field in model.model_fields.items()]
    hint = suggestion(name, fields) or f"the fields are: {', '.join(fields)}"
    return Problem(Code.UNKNOWN_FIELD, pointer(path), f"there is no field `{name}` here", hint)


def _model_at(path: Path) -> type[Document]:
    """The model of the object at ``path``."""
    return SequenceRule if "sequence" in path else _MODELS.get(_name_of(path), Request)


def _name_of(path: Path) -> str:
    """The name of the field that has the object at ``path``; empty for the document itself."""
    return next((part for part in reversed(path) if isinstance(part, str)), "")


_MODELS: Mapping[str, type[Document]] = {
    "task_groups": TaskGroup,
    "tasks": TaskSpec,
    "finally": TaskSpec,
    "retry": RetryPolicy,
    "cache": Cache,
    "budget": Amounts,
    "estimate": Amounts,
    "concurrency": Concurrency,
    "rate_limit": RateLimit,
    "expansion_config": Expansion,
    "transform_rules": TransformRules,
    "switch": Switch,
    "branch": Branch,
    "loop": Loop,
    "wait": Wait,
    "event": EventWait,
    "approval": Approval,
    "run": SubRun,
    "compensate": Compensation,
    "requires": Requires,
}
