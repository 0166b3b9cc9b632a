"""Reads request bodies up to a size limit and parses them in a thread."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from anabranch.core.errors import Code, RequestRefused
from anabranch.core.json_documents import load_document
from anabranch_gateway.http.parsing import BodyReservation, ParsingPool
from anabranch_gateway.http.problems import Refusal

SMALL = 64_000
"""Maximum bytes of a body that is not a run's request: a command, a subscription."""


async def read_body(request: Request, limit: int, reservation: BodyReservation) -> bytes:
    """Read the body.

    Raises:
        Refusal: 413, it is longer than `limit`; 503, no memory is free for it; 408, the caller disconnected before
            its end. The rest of the body is not read.
    """
    # Refused before it is read, if the client announces the size. The loop below counts what it really sends.
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            reservation.grow(len(chunk))
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise Refusal(408, "incomplete", "the connection was closed before the body was complete") from error
    return b"".join(chunks)


async def read_any_object(request: Request, parsing: ParsingPool, limit: int = SMALL) -> dict[str, Any]:
    """Read a JSON object of at most `limit` bytes; a missing body is an empty object.

    Raises:
        Refusal: 408, 413 and 503 as `read_body`; 422, the body is no JSON object.
    """
    async with parsing.reservation() as reservation:
        data = await read_body(request, limit, reservation)
        if not data.strip():
            return {}
        try:
            document = await parsing.lane(len(data)).run(load_document, data)
        except RequestRefused as refused:
            [problem] = refused.errors
            raise Refusal(422, str(problem.code), f"invalid body: {problem.message}") from refused
    if not isinstance(document, dict):
        raise Refusal(422, str(Code.SCHEMA), "the body is not a JSON object")
    return document


async def read_object(request: Request, parsing: ParsingPool, known: frozenset[str]) -> dict[str, Any]:
    """Read a small JSON object that has only `known` fields; a missing body is an empty object.

    Raises:
        Refusal: 408, 413 and 503 as `read_body`; 422, the body is not such an object.
    """
    document = await read_any_object(request, parsing)
    unknown = sorted(set(document) - known)
    if unknown:
        fields = ", ".join(sorted(known))
        detail = f"unknown field {unknown[0][:100]!r}; the known fields are: {fields}"
        raise Refusal(422, str(Code.UNKNOWN_FIELD), detail)
    return document


def text_field(document: dict[str, Any], name: str, limit: int = 2_000) -> str | None:
    """The value of an optional text field, None if it is absent. Raises Refusal 422 for any other type."""
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > limit:
        raise Refusal(422, str(Code.SCHEMA), f"{name} must be text of 1 to {limit} characters")
    return value


def _too_large(limit: int) -> Refusal:
    return Refusal(413, str(Code.TOO_LARGE), f"the body is over the limit of {limit:,} bytes")
