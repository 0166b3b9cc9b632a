"""The hash that tells whether two requests of one id are the same request. Pure, and fixed for good: a client
and an agency of different releases must agree."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson


def body_hash(document: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal digits, over a request's canonical document (`Request.to_document`), its own id
    left out.

    Raises:
        TypeError: the document holds something that is no JSON.
    """
    body = {name: value for name, value in document.items() if name != "request_id"}
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
