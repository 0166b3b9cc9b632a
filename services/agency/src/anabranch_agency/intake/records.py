"""Records of the topic `requests`, and the decisions about them: submit, control or refuse. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeAlias, get_args

from anabranch.core.errors import RequestRefused
from anabranch.core.json_documents import load_document
from anabranch.core.names import Names
from anabranch.core.project import project_named
from anabranch.core.request.admission import Limits
from anabranch.core.request.envelope import Sent, is_envelope, unwrap
from anabranch.core.request.models import ControlType
from anabranch.core.request.shape import Shape, shape_of
from anabranch.ports import Incoming, Outgoing
from anabranch_agency.intake.known_shapes import KnownShapes

CONTROL_TYPES = (*get_args(ControlType), "schedule")


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What the intake needs to judge a record.

    Attributes:
        agents: names of the agents that a request may use; None if they are not known.
        event_partitions: partitions of the topic `events`, to each of which a subscription of a session goes.
        event_ttl: seconds for which a published event is kept at most.
        known: accepted requests by shape. Each context has its own: what it keeps holds for its limits and agents.
    """

    names: Names
    limits: Limits
    agents: Collection[str] | None
    event_partitions: int
    event_ttl: float = inf
    known: KnownShapes = field(default_factory=KnownShapes, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Submit:
    """A valid request: the record that submits it to the owner of its run."""

    records: tuple[Outgoing]


@dataclass(frozen=True, slots=True)
class Control:
    """A valid control record: the records for the owner of its run, or for the event manager."""

    records: tuple[Outgoing, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """A record that is refused: a dead letter, and the answer to the sender."""

    records: tuple[Outgoing, ...]


Decision: TypeAlias = Submit | Control | Refuse


def document_of(value: bytes, limits: Limits) -> Any:
    """The JSON value of a record; None if it cannot be parsed, or is too large to be parsed."""
    # Checked before parsing, because parsed JSON takes many times the memory of its bytes.
    if len(value) > limits.parsed_bytes:
        return None
    try:
        return load_document(value)
    except RequestRefused:
        return None


def is_control(document: Any) -> bool:
    """Whether a document is a control record: it has a `type`, and no envelope around it."""
    return isinstance(document, dict) and "type" in document and not is_envelope(document)


def shape_in(sent: Sent) -> Shape | None:
    """The shape of a request; None if it cannot be valid, or if its envelope leads to a warning or an error, which
    are those of one request."""
    return None if sent.errors or sent.warnings else shape_of(sent.request)


def project_of(document: Any) -> str | None:
    """The project that a refused record belongs to.

    None for bytes that are no JSON object, and for a control record without `project`: the reader of the dead
    letter looks up the project of the run.
    """
    if not isinstance(document, Mapping):
        return None
    if not is_control(document):
        return project_named(unwrap(document).request)
    return project_named(document) if document.get("project") or document["type"] not in CONTROL_TYPES else None


def origin_of(record: Incoming) -> str:
    """The position of a record as `topic/partition/offset`."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def header_of(record: Incoming, name: str) -> str | None:
    """A header of a record, by its lower-case name."""
    found = next((value for key, value in record.headers if key.lower() == name), None)
    return found.decode("ascii", "replace") if found is not None else None


def text_of(document: Mapping[str, Any], name: str) -> str | None:
    """A field of a document if it is a string that is not empty."""
    value = document.get(name)
    return value if isinstance(value, str) and value else None
