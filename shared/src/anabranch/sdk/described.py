"""What `@agent` says about an agent besides how it is called: version, capabilities, schemas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from pydantic import BaseModel

from anabranch.core.names import name_problem


def version_of(name: str, version: str | int | None) -> str | None:
    """The version as text. Raises ValueError: it is empty, or no text."""
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, (str, int)) or not str(version):
        raise ValueError(f"version of the agent {name!r} is {version!r}: must be text such as '2'")
    return str(version)


def capabilities_of(name: str, capabilities: Iterable[str]) -> tuple[str, ...]:
    """The capabilities, each once, in alphabetical order. Raises ValueError: one is no name."""
    if isinstance(capabilities, str):
        raise ValueError(f"capabilities of the agent {name!r}: write a list, such as [{capabilities!r}]")
    found = list(capabilities)
    for each in found:
        problem = name_problem(each) if isinstance(each, str) else "must be text"
        if problem:
            raise ValueError(f"capability {each!r} of the agent {name!r}: {problem}")
    return tuple(sorted(set(found)))


def schema_of(name: str, field: str, schema: Mapping[str, Any] | type[BaseModel] | None) -> dict[str, Any] | None:
    """A JSON Schema. Raises TypeError: it is neither an object of JSON nor a pydantic model."""
    if schema is None:
        return None
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_json_schema()
    if not isinstance(schema, Mapping):
        raise TypeError(f"{field} of the agent {name!r} is a {type(schema).__name__}: must be a JSON Schema")
    try:
        found: dict[str, Any] = orjson.loads(orjson.dumps(dict(schema)))
    except TypeError as error:
        raise TypeError(f"{field} of the agent {name!r} is no JSON: {error}") from error
    return found
