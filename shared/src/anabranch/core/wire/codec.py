"""Encodes messages: a header line of JSON, then the segments of the payload, which intermediaries do not decode.

    {"type":"members",...,"segments":[812,40]}\\n<812 bytes><40 bytes>

The lengths of the segments are part of the header, so a reader cuts the payload without parsing it, and an owner
can pass values on as bytes. orjson writes no newline inside a document, so the first newline ends the header.
Golden files pin the wire format; a change that an older reader cannot read needs a new `v`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Generic, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from anabranch.core.errors import AnabranchError
from anabranch.core.json_documents import dumps
from anabranch.core.value_objects import value_object
from anabranch.core.wire.messages import Message, Offer, OnGroups, OnRuns

WIRE_VERSION = 1

M = TypeVar("M", bound=Message)


class Undecodable(AnabranchError):
    """A record that is not a message of this protocol. It becomes a dead letter and is never skipped silently."""


@value_object
class Decoded(Generic[M]):
    message: M
    segments: tuple[bytes, ...]


def header_of(message: Message) -> dict[str, Any]:
    """The header of a message without a payload, in the order of its fields. Its JSON is the record value."""
    # As `model_dump` does, without its Python frame: half of the time for a small message.
    header: dict[str, Any] = message.__pydantic_serializer__.to_python(message, mode="json", exclude_defaults=True)
    header["v"] = WIRE_VERSION
    # `exclude_defaults` leaves `type` out, because it always has its default.
    header["type"] = _type_of(message.__class__)
    return header


@cache
def _type_of(kind: type[Message]) -> str:
    """The `type` of a class of messages."""
    return str(kind.model_fields["type"].default)


def encode(message: Message, segments: Sequence[bytes] = ()) -> bytes:
    """The record value of a message and its payload."""
    header = header_of(message)
    if not segments:
        return dumps(header)
    header["segments"] = [len(segment) for segment in segments]
    return b"".join((orjson.dumps(header), b"\n", *segments))


def split(value: bytes) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Header and segments of a record value.

    Raises:
        Undecodable: no JSON object in the first line, another wire version, or segments that do not fit the
            payload. Nothing else is raised, whatever the bytes are.
    """
    line, _, payload = value.partition(b"\n")
    try:
        header = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Undecodable(f"the header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise Undecodable(f"the header is not a JSON object but a {type(header).__name__}")
    version = header.get("v")
    # `type`, not `isinstance`: True is an int, and equal to 1.
    if type(version) is not int or version != WIRE_VERSION:
        raise Undecodable(f"wire version {WIRE_VERSION} is expected, found {version!r}: upgrade the readers first")
    return header, _cut(payload, header.get("segments", [])) if payload or "segments" in header else ()


def _cut(payload: bytes, lengths: object) -> tuple[bytes, ...]:
    """Cut the payload into segments of the lengths that the header announces.

    A header that ends with a newline and has no payload has no segments.
    """
    if not isinstance(lengths, list):
        raise Undecodable(_NO_LENGTHS)
    start, segments = 0, []
    for length in lengths:
        # `type`, as above: bool is an int in Python, but not a length.
        if type(length) is not int or length < 0:
            raise Undecodable(_NO_LENGTHS)
        segments.append(payload[start : start + length])
        start += length
    if start != len(payload):
        raise Undecodable(
            f"the header announces segments of {start} bytes, but the payload has {len(payload)} bytes"
        )
    return tuple(segments)


_NO_LENGTHS = "`segments` is not a list of lengths in bytes"


class Codec(Generic[M]):
    """Decodes the messages of one topic.

    Args:
        union: the discriminated union of the messages of the topic.
    """

    def __init__(self, union: Any) -> None:
        # Without the adapter's method, which only handles options that are not used here.
        self._validate: Callable[[object], M] = TypeAdapter(union).validator.validate_python

    def decode(self, value: bytes) -> Decoded[M]:
        """Decode a record value. Raises Undecodable if it is not a message of this topic."""
        header, segments = split(value)
        try:
            return Decoded(self._validate(header), segments)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = "/".join(str(part) for part in first["loc"])
            raise Undecodable(f"not a message of this topic: {where}: {first['msg']}") from error


RUNS: Codec[Any] = Codec(OnRuns)
GROUPS: Codec[Any] = Codec(OnGroups)
TASKS: Codec[Offer] = Codec(Offer)
