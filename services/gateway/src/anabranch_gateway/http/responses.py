"""JSON responses, encoded by orjson. No model validates them: every document was made by the system itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response

_OPTIONS = orjson.OPT_NON_STR_KEYS


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response that no cache keeps, because the state that it shows changes."""
    return encoded_response(encode(document), status, headers)


def encode(document: Any) -> bytes:
    """The body of a response."""
    return orjson.dumps(document, option=_OPTIONS)


def encoded_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response whose body is already encoded."""
    return Response(
        body,
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store", **(headers or {})},
    )
