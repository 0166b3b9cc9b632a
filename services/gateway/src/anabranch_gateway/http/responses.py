"""Answers as JSON, written by orjson, without a model in between: what is sent was made by the system itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response

_OPTIONS = orjson.OPT_NON_STR_KEYS


def answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer that no cache may keep: what it shows changes."""
    return json_answer(encoded(document), status, headers)


def encoded(document: Any) -> bytes:
    """The body of a response."""
    return orjson.dumps(document, option=_OPTIONS)


def json_answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with a body that is already encoded."""
    return Response(
        body,
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store", **(headers or {})},
    )
