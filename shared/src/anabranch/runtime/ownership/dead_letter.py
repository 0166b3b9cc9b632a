"""Dead letters: the original bytes and headers of a record that cannot be handled, with the reason."""

from __future__ import annotations

from collections.abc import Mapping

from anabranch.core.names import Names
from anabranch.core.wire.dead_letters import DEAD_LETTER_ID, PROJECT, SIGNATURE, signature
from anabranch.ports import Headers, Incoming, Outgoing

REASON_BYTES = 8_192
FRAME_BYTES = 200
MAX_DEAD_LETTER_BYTES = 1_030_000
"""Limit of value, key and headers together, below the log's limit: a compressed original may be far larger."""


def dead_letter(
    names: Names, record: Incoming, reason: str, *, code: str = "undecodable", project: str | None = None
) -> Outgoing:
    """The record for the dead-letter topic. `project` is the one that a refused request belongs to.

    Value, key and headers are the original's, including repeated and null headers. They are followed by
    `anabranch_*` headers with the code, the reason, its signature and the original's topic, partition and offset,
    which are also the dead letter's id; `anabranch_null` marks a null value, as distinct from an empty one. The
    value of a record too large for a dead letter is truncated, and if that is not enough its key and headers are
    omitted; `anabranch_bytes` then has the value's original size.
    """
    own = _own_headers(record, reason, code, project)
    # At the end, because the original may have headers of these names: readers take the last header of a name, and
    # remove headers from the end to restore the original.
    headers, key = record.headers + own, record.key
    value_limit = MAX_DEAD_LETTER_BYTES - _bytes(key, headers)
    if len(record.value) <= value_limit:
        return Outgoing(names.dead_letters, key, record.value, headers=headers)
    if value_limit < 0:
        headers, key = own, None
    headers += (("anabranch_bytes", str(len(record.value)).encode()),)
    value_limit = MAX_DEAD_LETTER_BYTES - _bytes(key, headers)
    return Outgoing(names.dead_letters, key, record.value[:value_limit], headers=headers)


def fit_dead_letter(record: Outgoing, limit: int) -> Outgoing:
    """Shrink a dead letter to a record of at most `limit` bytes: its value is truncated, and if that is not enough
    the original's headers and key are omitted."""
    pairs = record.headers.items() if isinstance(record.headers, Mapping) else record.headers
    headers: Headers = tuple(pairs)
    key = record.key.encode() if isinstance(record.key, str) else record.key
    size: Headers = (("anabranch_bytes", str(len(record.value)).encode()),)
    if _bytes(key, headers + size) + FRAME_BYTES > limit:
        key, headers = None, tuple((name, value) for name, value in headers if name.startswith("anabranch_"))
    # A record that `dead_letter` truncated already has the size of the original value.
    if not any(name == "anabranch_bytes" for name, _ in headers):
        headers += size
    value_limit = max(0, limit - _bytes(key, headers) - FRAME_BYTES)
    return Outgoing(record.topic, key, record.value[:value_limit], headers=headers, partition=record.partition)


def _own_headers(record: Incoming, reason: str, code: str, project: str | None) -> Headers:
    origin = f"{record.topic}/{record.partition}/{record.offset}"
    own: Headers = (
        ("anabranch_code", code.encode()),
        ("anabranch_reason", reason.encode()[:REASON_BYTES]),
        ("anabranch_origin", origin.encode()),
        (SIGNATURE, signature(code, reason).encode()),
        (DEAD_LETTER_ID, origin.encode()),
    )
    if project is not None:
        own = (*own, (PROJECT, project.encode()))
    return (*own, ("anabranch_null", b"value")) if record.is_null else own


def _bytes(key: bytes | None, headers: Headers) -> int:
    return len(key or b"") + sum(len(name.encode()) + len(value or b"") + 8 for name, value in headers)
