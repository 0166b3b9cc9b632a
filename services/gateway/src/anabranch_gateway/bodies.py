"""Bodies of requests, read up to a limit: nothing that a caller sends is held beyond it."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Request

from anabranch.core.errors import Code
from anabranch_gateway.problems import Refusal

SMALL = 64_000
"""Bytes of a body that is no request: a command, a subscription."""


async def read_body(request: Request, limit: int) -> bytes:
    """The body. Raises Refusal 413 where it is longer than `limit`, without reading on."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


async def read_object(request: Request, known: frozenset[str]) -> dict[str, Any]:
    """A small JSON object with none but known fields; no body is an empty one.

    Raises:
        Refusal: 413, 422.
    """
    data = await read_body(request, SMALL)
    if not data.strip():
        return {}
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Refusal(422, str(Code.NOT_JSON), f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Refusal(422, str(Code.SCHEMA), "the body is no JSON object")
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
