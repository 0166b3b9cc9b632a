"""Definitions: requests with a name and a version, which are started by name with an input. Pure.

A definition never changes: `name@version` has one content, whose hash is part of each run that was admitted with
it. The first record of a version on the log counts, and other contents of the same version are ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from pydantic import Field, ValidationError

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.json_documents import dumps
from anabranch.core.names import name_problem
from anabranch.core.project import DEFAULT_PROJECT, project_problem
from anabranch.core.request.admission import read_request
from anabranch.core.request.document import Document
from anabranch.core.request.envelope import json_pointer
from anabranch.core.request.fields import Json, Key, Name, Project, SessionId, Timeout, Timestamp
from anabranch.core.request.schema_errors import schema_problems

MAX_DEFINITIONS = 10_000
"""Definitions that an installation keeps."""
_FIELDS = frozenset({"name", "version", "description", "input_schema", "request", "project"})


class DefinitionRequest(Document):
    """A request that starts a definition."""

    definition: str = Field(min_length=1)
    """`name` for the version that was pushed last, or `name@version`."""
    input: dict[Key, Json] = Field(default_factory=dict)
    """Values that replace those of the definition's context."""
    request_id: Key | None = None
    session_id: SessionId | None = None
    project: Project = DEFAULT_PROJECT
    name: Name | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    timeout: Timeout | None = None
    not_before: Timestamp | None = None
    deadline: Timestamp | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """One version of a definition. `request` is as it was sent."""

    project: str
    name: str
    version: str
    request: Mapping[str, Any]
    input_schema: Mapping[str, Any] | None = None
    description: str = ""
    created_at: float = 0.0
    """Seconds since the epoch. No part of the content."""
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        content = [self.name, self.version, self.request, self.input_schema, self.description]
        digest = hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
        object.__setattr__(self, "hash", digest)

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def stamp(self) -> dict[str, str]:
        """What a run is admitted with: `{name, version, hash}`."""
        return {"name": self.name, "version": self.version, "hash": self.hash}

    @property
    def key(self) -> str:
        """The key of its record: another content of the same version has another key, so compaction keeps both."""
        return f"{self.project}/{self.reference}/{self.hash}"

    def to_document(self, *, full: bool = True) -> dict[str, Any]:
        document = {
            "project": self.project,
            "name": self.name,
            "version": self.version,
            "hash": self.hash,
            "description": self.description,
            "created_at": self.created_at,
        }
        return document | ({"input_schema": self.input_schema, "request": self.request} if full else {})

    def encode(self) -> bytes:
        return dumps(self.to_document())

    @classmethod
    def decode(cls, value: bytes) -> Definition:
        """Raises ValueError: the bytes are no definition."""
        try:
            found = orjson.loads(value)
            return cls(
                project=str(found["project"]),
                name=str(found["name"]),
                version=str(found["version"]),
                request=dict(found["request"]),
                input_schema=found.get("input_schema"),
                description=str(found.get("description") or ""),
                created_at=float(found.get("created_at") or 0.0),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no definition: {type(error).__name__}: {error}") from error


def read_definition(document: Any, project: str | None = None, created_at: float = 0.0) -> Definition:
    """Read a definition as users write it: `{name, version, input_schema, request}`, or a request with the fields
    `version` and `input_schema` beside its own.

    Without a version, `version` is empty, and `Definitions.numbered` gives the next number.

    Raises:
        RequestRefused: with every problem.
    """
    if not isinstance(document, Mapping):
        raise RequestRefused([Problem(Code.NOT_A_REQUEST, "", "a definition is an object", "it has `request`")])
    request, base = document.get("request"), "/request"
    if request is None:
        inner = {key: value for key, value in document.items() if key not in _FIELDS or key == "name"}
        request, base = inner, ""
    problems = list(_head_problems(document, project))
    if not isinstance(request, Mapping):
        problems.append(Problem(Code.SCHEMA, base, "`request` is not an object", "it is the request to start"))
    # Here, because the library takes long to import, and most programs start no definitions.
    from anabranch.core.waits.payload_schemas import schema_problem

    schema = document.get("input_schema")
    if schema is not None and not isinstance(schema, Mapping):
        problems.append(Problem(Code.SCHEMA, "/input_schema", "`input_schema` is not an object"))
    elif schema is not None and (problem := schema_problem(schema)) is not None:
        problems.append(Problem(Code.SCHEMA, "/input_schema", f"it is no JSON Schema: {problem}"))
    if isinstance(request, Mapping):
        problems += [replace(each, path=base + each.path) for each in _request_problems(request, schema)]
    if problems:
        raise RequestRefused(problems)
    assert isinstance(request, Mapping)
    return Definition(
        project=project or str(document.get("project") or DEFAULT_PROJECT),
        name=str(document["name"]),
        version="" if document.get("version") is None else str(document["version"]),
        request=dict(request),
        input_schema=schema,
        description=str(document.get("description") or ""),
        created_at=created_at,
    )


def _head_problems(document: Mapping[str, Any], project: str | None) -> Iterator[Problem]:
    name, version = document.get("name"), document.get("version")
    if not isinstance(name, str):
        path = "/name" if "name" in document else ""
        yield Problem(Code.SCHEMA, path, "`name` is missing", "name the definition")
    elif (problem := name_problem(name)) is not None or "@" in name:
        yield Problem(Code.BAD_NAME, "/name", problem or f"{name!r} contains '@', which is not allowed here")
    if isinstance(version, bool) or not isinstance(version, str | int | float | None):
        yield Problem(Code.SCHEMA, "/version", "`version` is neither text nor a number", 'such as 3 or "2.1"')
    elif version is not None and ((problem := name_problem(str(version))) is not None or "@" in str(version)):
        yield Problem(Code.BAD_NAME, "/version", problem or f"{version!r} contains '@', which is not allowed here")
    named = document.get("project")
    if named is not None and (not isinstance(named, str) or (problem := project_problem(named)) is not None):
        yield Problem(Code.BAD_NAME, "/project", "`project` is no name of a project")
    elif named is not None and project is not None and named != project:
        yield Problem(Code.SCHEMA, "/project", f"the definition is for the project {project!r}")


def _request_problems(request: Mapping[str, Any], schema: Any) -> Iterator[Problem]:
    """Problems of the request, with the properties of the input schema as if the context had them."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    given = set(properties) if isinstance(properties, Mapping) else set()
    # Without a schema, any input may be given.
    provided = (lambda _key: True) if not isinstance(schema, Mapping) else given.__contains__
    yield from read_request(dict(request), session_keys=provided).errors
    for name in ("request_id", "session_id", "project"):
        if name in request:
            hint = "give it when the definition is started"
            yield Problem(Code.SCHEMA, f"/{name}", f"a definition has no `{name}`", hint)


def split_reference(reference: str) -> tuple[str, str | None]:
    """Name and version of `name` or `name@version`."""
    name, at, version = reference.partition("@")
    return name, version if at else None


class Definitions:
    """The definitions of an installation, as a fold over their topic."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], dict[str, Definition]] = {}
        """(project, name) -> version -> the first content, in the order of the log."""
        self.count = 0

    def apply(self, value: bytes) -> None:
        """Apply one record. Raises ValueError: it is no definition."""
        found = Definition.decode(value)
        versions = self._versions.setdefault((found.project, found.name), {})
        if found.version not in versions and self.count < MAX_DEFINITIONS:
            versions[found.version] = found
            self.count += 1

    def find(self, project: str, reference: str) -> Definition | None:
        """A version; without one in the reference, that which was pushed last."""
        name, version = split_reference(reference)
        versions = self._versions.get((project, name), {})
        if version is None:
            return next(reversed(versions.values()), None)
        return versions.get(version)

    def numbered(self, definition: Definition) -> Definition:
        """A definition with a version: without one of its own, that of the same content, or the next number."""
        if definition.version:
            return definition
        versions = self._versions.get((definition.project, definition.name), {})
        same = next((each for each in versions.values() if _is_same(each, definition)), None)
        if same is not None:
            return same
        last = max((int(each) for each in versions if each.isdigit()), default=0)
        return replace(definition, version=str(last + 1))

    def all(self) -> Iterator[Definition]:
        """Every version, those of one name in the order of the log."""
        for key in sorted(self._versions):
            yield from self._versions[key].values()


def _is_same(known: Definition, pushed: Definition) -> bool:
    return replace(pushed, version=known.version).hash == known.hash


def is_definition_request(document: object) -> bool:
    """True if a document starts a definition."""
    return isinstance(document, Mapping) and "definition" in document and "task_groups" not in document


def read_definition_request(document: Mapping[str, Any]) -> DefinitionRequest:
    """Raises RequestRefused: with every problem of the document, but of its input."""
    try:
        return DefinitionRequest.model_validate(document)
    except ValidationError as error:
        raise RequestRefused(tuple(schema_problems(error, document, json_pointer))) from error


def unknown_definition(project: str, reference: str) -> RequestRefused:
    """The refusal of a request that names no known definition."""
    message = f"the project {project!r} has no definition {reference!r}"
    hint = "see: anabranch definitions list; push it with: anabranch definitions push FILE"
    return RequestRefused([Problem(Code.UNKNOWN_DEFINITION, "/definition", message, hint)])


def definition_conflict(definition: Definition) -> RequestRefused:
    """The refusal of another content for a version that exists."""
    message = f"{definition.reference} exists with another content, and a version never changes"
    return RequestRefused([Problem(Code.DEFINITION_CONFLICT, "/version", message, "push it as another version")])


def instance_of(definition: Definition, sent: DefinitionRequest) -> dict[str, Any]:
    """The request that a definition becomes with an input.

    Raises:
        RequestRefused: the input does not fit the schema.
    """
    own = definition.request.get("context")
    context = {**(own if isinstance(own, Mapping) else {}), **sent.input}
    check_input(definition, context, "/input")
    request = {**definition.request, "context": context, "project": sent.project}
    labels = definition.request.get("labels")
    request["labels"] = {**(labels if isinstance(labels, Mapping) else {}), **sent.labels}
    request["name"] = sent.name or definition.request.get("name") or definition.name
    request |= {
        name: value
        for name in ("request_id", "session_id", "timeout", "not_before", "deadline")
        if (value := getattr(sent, name)) is not None
    }
    return request


def check_input(definition: Definition, context: Mapping[str, Any], base: str) -> None:
    """Raises RequestRefused: a context does not fit the input schema of a definition."""
    if definition.input_schema is None:
        return
    from anabranch.core.waits.payload_schemas import payload_problems

    problems = payload_problems(definition.input_schema, dict(context))
    if problems:
        raise RequestRefused([Problem(Code.SCHEMA, base + path, message) for path, message in problems])
