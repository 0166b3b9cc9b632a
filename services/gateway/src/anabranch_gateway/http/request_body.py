"""Reads request bodies up to a size limit and parses them outside of the event loop."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from anabranch.core.errors import Code, RequestRefused
from anabranch.core.json_documents import load_document
from anabranch_gateway.http.parsing import ParsingPool, Share
from anabranch_gateway.http.problems import Refusal

SMALL = 64_000
"""Bytes of a body that is no request: a command, a subscription."""


async def read_body(request: Request, limit: int, share: Share) -> bytes:
    """Read the body.

    Raises:
        Refusal: 413, it is longer than `limit`; 503, no memory is free for it; 408, the caller disconnected before
    its end. The rest is not read.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            share.grow(len(part))
            parts.append(part)
    except ClientDisconnect as error:
        raise Refusal(408, "incomplete", "the connection was closed before the body was complete") from error
    return b"".join(parts)


async def read_object(request: Request, known: frozenset[str]) -> dict[str, Any]:
    """Read a small JSON object with known fields only; a missing body is an empty object.

    Raises:
        Refusal: 408, 413, 422, 503.
    """
    parsing: ParsingPool = request.app.state.parts.parsing
    async with parsing.share() as share:
        data = await read_body(request, SMALL, share)
        if not data.strip():
            return {}
        try:
            document = await parsing.small.run(load_document, data)
        except RequestRefused as refused:
            [problem] = refused.errors
            raise Refusal(422, str(problem.code), f"the body: {problem.message}") from refused
    if not isinstance(document, dict):
        raise Refusal(422, str(Code.SCHEMA), "the body is not a JSON object")
    unknown = sorted(set(document) - known)
    if unknown:
        fields = ", ".join(sorted(known))
        raise Refusal(422, str(Code.UNKNOWN_FIELD), f"there is no field {unknown[0][:100]!r}; there are: {fields}")
    return document


def text_field(document: dict[str, Any], name: str, limit: int = 2_000) -> str | None:
    """A field that is text or absent. Raises Refusal 422 where it is anything else."""
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > limit:
        raise Refusal(422, str(Code.SCHEMA), f"{name} is no text of 1 to {limit} characters")
    return value


def _too_large(limit: int) -> Refusal:
    return Refusal(413, str(Code.TOO_LARGE), f"the body is over the limit of {limit:,} bytes")
