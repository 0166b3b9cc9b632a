"""The hash that decides whether two requests with one request id are the same request. Pure. The algorithm is
fixed for good, because clients, gateways and agencies of different releases have to agree."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from anabranch.core.errors import Code, Problem


def body_hash(document: Mapping[str, Any]) -> str:
    """SHA-256 of a request's canonical document (`Request.to_document`) without its request id, in hexadecimal
    digits.

    Raises:
        TypeError: the document contains a value that JSON cannot represent.
    """
    body = {name: value for name, value in document.items() if name != "request_id"}
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def has_other_body(known: str | None, sent: str | None) -> bool:
    """True if a request id was used before with another body.

    Args:
        known: the hash of the admitted body; None if it is not known, and any body is taken for it.
        sent: the hash of the body that was sent now.
    """
    return known not in (None, sent)


def request_id_conflict() -> Problem:
    """The refusal of a request whose id was used before with another body."""
    return Problem(
        Code.REQUEST_ID_CONFLICT,
        "/request_id",
        "this request id was used before, with another body",
        "send the same body to get the first run's result, or take a new id",
    )


def request_id_ended() -> Problem:
    """The refusal of a request whose id was used by a run that has ended, and whose end the store has lost."""
    return Problem(
        Code.REQUEST_ID_CONFLICT,
        "/request_id",
        "a run with this request id has ended, but the store has lost the record of its end",
        "its final record is on the results topic, if that still has it; take a new id to run the request again",
    )
