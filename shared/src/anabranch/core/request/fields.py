"""Field types of the request's models: names, keys, durations, tolerances, each with its JSON Schema.

Validates single values. An error has a code of its own if the code `schema` would be too general.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, Field, JsonValue, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError, PydanticKnownError

from anabranch.core import names
from anabranch.core.durations import parse_duration
from anabranch.core.errors import Code
from anabranch.core.event_addresses import MAX_KEY
from anabranch.core.json_documents import compact_size
from anabranch.core.lanes import POOL_PATTERN, PRIORITIES, pool_problem
from anabranch.core.lanes import Priority as PriorityName
from anabranch.core.project import PATTERN, project_problem
from anabranch.core.request.task_spelling import MISSING
from anabranch.core.templates import as_text
from anabranch.core.timestamps import parse_timestamp, utc_text

Strategy = Literal["none", "immediate", "fixed", "exponential", "fibonacci"]
ExpansionType = Literal["array", "matrix", "custom"]
OutputFormat = Literal["merge", "separate", "single", "index"]
OnEmpty = Literal["complete", "fail", "skip"]
OnFailure = Literal["fail", "hold"]
DependencyKind = Literal["produced", "context", "session", "external", "absent", "task"]
"""Where the value of a dependency comes from: `produced` by a task of the request; the `context` of the request;
an earlier run of the `session`; `external`: a program outside Anabranch; `absent`: optional, and nothing provides
it; `task`: the end of another task (see `names.outcome_name`), which no agent or template sees."""

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def _schema_error(message: str) -> PydanticCustomError:
    return PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": message})


def _named(value: object, problem: str | None) -> object:
    if problem:
        raise PydanticCustomError(Code.BAD_NAME.value, "{reason}", {"reason": problem})
    return value


def _check_name(value: object) -> object:
    return _named(value, names.name_problem(value)) if isinstance(value, str) else value


def _check_agent(value: object) -> object:
    if isinstance(value, str):
        return _named(value, names.name_problem(names.capability_of(value) or value))
    if value is MISSING:
        raise PydanticKnownError("missing")
    if isinstance(value, Mapping):
        return _of_capability(value)
    return value


def _of_capability(value: Mapping[Any, Any]) -> str:
    """``{"capability": "x"}`` as the text ``capability/x``."""
    found = value.get("capability")
    if set(value) != {"capability"} or not isinstance(found, str):
        reason = "must be the name of an agent, or {capability: NAME}"
        raise PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": reason, "hint": "give one name"})
    return names.CAPABILITY + str(_named(found, names.name_problem(found)))


def _check_key(value: object) -> object:
    return _named(value, names.key_problem(value)) if isinstance(value, str) else value


def _check_result_key(value: object) -> object:
    if isinstance(value, str) and value.endswith("?"):
        raise PydanticCustomError(
            Code.BAD_NAME.value,
            "{reason}",
            {"reason": f"{value[-100:]!r} ends with '?', which marks an optional dependency"},
        )
    return _check_key(value)


def text_of_number(value: object) -> object:
    """A number becomes the text that a template would insert: `key: 4711` is the key of `key: "{order}"`."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return as_text(value)
    return value


def _check_session_id(value: object) -> object:
    return _named(value, names.session_id_problem(value)) if isinstance(value, str) else value


def _check_project(value: object) -> object:
    return _named(value, project_problem(value)) if isinstance(value, str) else value


def _check_priority(value: object) -> object:
    """A number from 1 to 5 is the level of that rank, 1 the lowest."""
    if isinstance(value, str) and value in PRIORITIES:
        return value
    if type(value) is int and 1 <= value <= len(PRIORITIES):  # no bool, which is an int in Python
        return PRIORITIES[value - 1]
    raise _schema_error(f"{repr(value)[:100]} is neither one of {', '.join(PRIORITIES)} nor a number from 1 to 5")


def _check_pool(value: object) -> object:
    return _named(value, pool_problem(value)) if isinstance(value, str) else value


def _check_duration(value: object) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise _schema_error(str(error)) from error


def _check_timeout(value: object) -> float:
    seconds = _check_duration(value)
    if seconds == 0:
        raise _schema_error("must be longer than 0 seconds")
    return seconds


def _check_timestamp(value: object) -> float:
    try:
        return parse_timestamp(value)
    except ValueError as error:
        raise _schema_error(str(error)) from error


def _check_duration_or_template(value: object) -> float | str:
    return value if isinstance(value, str) and "{" in value else _check_duration(value)


def _check_time_or_template(value: object) -> str | int | float:
    """The forms that `core.waits.rendering` reads: a time without a zone is in UTC."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and ("{" in value or _is_time(value.strip())):
        return value
    raise _schema_error(
        f"{repr(value)[:100]} is neither a time such as 2030-01-31T12:00:00Z, nor seconds since the epoch"
    )


def _is_time(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        pass
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _plain_number(value: float) -> int | float:
    """Write 30.0 as 30: one canonical spelling of each value."""
    return int(value) if value.is_integer() else value


def _plain_duration(value: float | str) -> int | float | str:
    return value if isinstance(value, str) else _plain_number(value)


def _check_tolerance(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match and float(match[1]) <= 100:
        return f"{_plain_number(float(match[1]))}%"
    raise _schema_error(f'{repr(value)[:100]} is neither a count (0 or more) nor a percentage such as "5%"')


def tolerated(tolerance: int | str, members: int) -> int:
    """The number of ``members`` that may fail; a percentage is rounded down, so 5% of 10 is 0."""
    if isinstance(tolerance, int):
        return tolerance
    # 1e-9: the product of floats may be just below the exact one, and would lose a member.
    return math.floor(members * float(tolerance.removesuffix("%")) / 100 + 1e-9)


def _check_jitter(value: object) -> float:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, (int, float)) and 0 <= value <= 1:
        return float(value)
    raise _schema_error(f"{repr(value)[:100]} is neither a fraction from 0 to 1 nor true or false")


def array_source(value: object) -> object:
    """Parse a mapped array: a JSON text of a list becomes the list, any other text is a context path."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return parsed if isinstance(parsed, list) else value


def _check_source(value: object) -> object:
    source = array_source(value)
    if isinstance(source, tuple):
        return list(source)
    if isinstance(source, list) and compact_size(source) is None:
        raise PydanticCustomError(Code.TOO_DEEP.value, "the list is nested too deeply")
    if isinstance(source, list) or (isinstance(source, str) and source.strip()):
        return source
    raise _schema_error("is neither a context path nor a list")


def _check_scalar(value: object) -> object:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise _schema_error("is not a string, number, true, false or null")


_DURATION_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?|(\d+(\.\d+)?(ms|s|m|h|d))+)\s*$"},
    ],
    "description": 'seconds, or a string such as "250ms", "30s", "5m", "2h"',
}
_ARRAY_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array"}],
    "description": "a context path (dotted), or a literal list",
}
_TOLERANCE_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"}],
    "description": 'a count of members, or a percentage of them such as "5%"',
}
_JITTER_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "boolean"}],
    "description": "by which fraction a delay may be shortened; true is 1",
}
_SCALAR_SCHEMA: dict[str, Any] = {"type": ["string", "number", "boolean", "null"]}


def _text_schema(forbidden: str, description: str) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": names.MAX_LENGTH,
            "pattern": rf"^[^{forbidden}\u0000-\u001f\u007f]*$",
            "description": description,
        }
    )


Name = Annotated[str, BeforeValidator(_check_name), _text_schema("/", "printable, 1 to 255 characters, no '/'")]
_AGENT_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {
            "type": "string",
            "minLength": 1,
            "maxLength": names.MAX_LENGTH + len(names.CAPABILITY),
            "pattern": rf"^({names.CAPABILITY})?[^/\u0000-\u001f\u007f]*$",
            "description": "the name of an agent: printable, 1 to 255 characters, no '/'; or capability/NAME",
        },
        {
            "type": "object",
            "properties": {"capability": {"type": "string", "minLength": 1, "maxLength": names.MAX_LENGTH}},
            "required": ["capability"],
            "additionalProperties": False,
            "description": "any agent with this capability",
        },
    ],
}
Agent = Annotated[str, BeforeValidator(_check_agent), WithJsonSchema(_AGENT_SCHEMA)]
"""The name of an agent, or ``capability/`` and a capability. Reports a task that is of no kind at all."""
Key = Annotated[str, BeforeValidator(_check_key), _text_schema("{}", "printable, 1 to 255 characters, no '{' '}'")]
ResultKey = Annotated[
    str,
    BeforeValidator(_check_result_key),
    _text_schema("{}", "printable, 1 to 255 characters, no '{' '}', not ending with '?'"),
]
_KEY_SCHEMA = {"type": ["string", "number"], "description": "a text, or a number, which becomes text"}
EventKey = Annotated[str, BeforeValidator(text_of_number), WithJsonSchema(_KEY_SCHEMA)]
"""The correlation key of an event, which may have placeholders."""
CorrelationKey = Annotated[
    str,
    Field(max_length=MAX_KEY),
    BeforeValidator(text_of_number),
    WithJsonSchema({**_KEY_SCHEMA, "maxLength": MAX_KEY}),
]
SessionId = Annotated[
    str,
    BeforeValidator(_check_session_id),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9._~-]{1,128}$"}),
]
Project = Annotated[
    str,
    BeforeValidator(_check_project),
    WithJsonSchema({"type": "string", "pattern": f"^{PATTERN}$"}),
]
Priority = Annotated[
    PriorityName,
    BeforeValidator(_check_priority),
    WithJsonSchema(
        {
            "anyOf": [{"enum": list(PRIORITIES)}, {"type": "integer", "minimum": 1, "maximum": len(PRIORITIES)}],
            "description": "a level, or its rank from 1, the lowest, to 5",
        }
    ),
]
Pool = Annotated[
    str, BeforeValidator(_check_pool), WithJsonSchema({"type": "string", "pattern": f"^{POOL_PATTERN}$"})
]
Duration = Annotated[
    float,
    BeforeValidator(_check_duration),
    PlainSerializer(_plain_number),
    WithJsonSchema(_DURATION_SCHEMA),
]
Timeout = Annotated[
    float,
    BeforeValidator(_check_timeout),
    PlainSerializer(_plain_number),
    WithJsonSchema(_DURATION_SCHEMA),
]
Timestamp = Annotated[
    float,
    BeforeValidator(_check_timestamp),
    PlainSerializer(utc_text),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "minLength": 1}, {"type": "number", "minimum": 0}],
            "description": "a time such as 2030-01-31T12:00:00Z (else in UTC), or seconds since 1970",
        }
    ),
]
DurationOrTemplate = Annotated[
    float | str,
    BeforeValidator(_check_duration_or_template),
    PlainSerializer(_plain_duration),
    WithJsonSchema(
        {
            "anyOf": [*_DURATION_SCHEMA["anyOf"], {"type": "string", "pattern": r"\{"}],
            "description": 'seconds, a string such as "5m" or "2h", or a placeholder of one',
        }
    ),
]
TimeOrTemplate = Annotated[
    str | int | float,
    BeforeValidator(_check_time_or_template),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "number", "minimum": 0},
            ],
            "description": (
                "a time such as 2030-01-31T12:00:00Z (without a zone in UTC), seconds since the epoch, or a "
                "placeholder of one"
            ),
        }
    ),
]
Jitter = Annotated[
    float, BeforeValidator(_check_jitter), PlainSerializer(_plain_number), WithJsonSchema(_JITTER_SCHEMA)
]
Tolerance = Annotated[int | str, BeforeValidator(_check_tolerance), WithJsonSchema(_TOLERANCE_SCHEMA)]
ArraySource = Annotated[str | list[Any], BeforeValidator(_check_source), WithJsonSchema(_ARRAY_SCHEMA)]
Scalar = Annotated[Any, BeforeValidator(_check_scalar), WithJsonSchema(_SCALAR_SCHEMA)]
Count = Annotated[int, Field(strict=True, ge=1)]
Index = Annotated[int, Field(strict=True, ge=0)]
Json = JsonValue
