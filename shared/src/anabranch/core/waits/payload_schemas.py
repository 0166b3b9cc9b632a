"""Checks payloads of signals and forms of approvals against the JSON Schema of their wait. Pure.

The schema comes from a request, so it never reads anything from the network: a `$ref` may only point into the
schema itself. The meta-schemas of the drafts 4 to 2020-12 are part of the library. Its work is bounded, see
`bounded_validators`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry

from anabranch.core.waits.bounded_validators import TooMuchWork, bounded, bounded_work, schema_refusal
from anabranch.core.waits.patterns import PatternRefused

MAX_MESSAGE = 500
MAX_PROBLEMS = 20
_CACHED = 256


def schema_problem(schema: Mapping[str, Any]) -> str | None:
    """Why a JSON Schema cannot be used; None if it can."""
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
    except SchemaError as error:
        return _message(error)
    except Exception as error:  # noqa: BLE001  # errors of regular expressions and of deep nesting are let through
        return f"{type(error).__name__}: {error}"[:MAX_MESSAGE]
    return schema_refusal(schema)


def payload_problems(schema: Mapping[str, Any], payload: Any) -> list[tuple[str, str]]:
    """What keeps a payload from its schema: (JSON pointer into the payload, message) of each problem, at most
    `MAX_PROBLEMS`; empty if it fits. A schema that cannot be used is a problem of every payload."""
    try:
        validator = _validator(orjson.dumps(schema))
        with bounded_work():
            errors = _first(validator, payload)
    except (TooMuchWork, PatternRefused) as error:
        return [("", f"it cannot be checked: {error}"[:MAX_MESSAGE])]
    except Exception as error:  # noqa: BLE001
        # The schema is a user's, and the library checks little of it before use: a wrong regular expression, a
        # reference that leads nowhere or to itself each raise an error of another package.
        return [("", f"the schema cannot be used: {type(error).__name__}: {error}"[:MAX_MESSAGE])]
    return [("".join(f"/{_escaped(part)}" for part in error.absolute_path), _message(error)) for error in errors]


def _first(validator: Validator, payload: Any) -> list[ValidationError]:
    found: list[ValidationError] = []
    for error in validator.iter_errors(payload):
        found.append(best_match([error]) or error)
        if len(found) == MAX_PROBLEMS:
            break
    # Sorted by where, so that the order does not depend on that of the schema's keywords.
    return sorted(found, key=lambda error: [str(part) for part in error.absolute_path])


@lru_cache(_CACHED)
def _validator(schema: bytes) -> Validator:
    document = orjson.loads(schema)
    kind = validator_for(document, default=Draft202012Validator)
    # A registry of its own: the library's default one fetches a reference that it does not know.
    return bounded(kind)(document, registry=Registry(), format_checker=kind.FORMAT_CHECKER)


def _message(error: ValidationError | SchemaError) -> str:
    text = str(error.message)
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 3] + "..."


def _escaped(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
