"""Dead letters: the original bytes and headers of a record that cannot be handled, with the reason."""

from __future__ import annotations

from collections.abc import Mapping

from anabranch.core.names import Names
from anabranch.ports import Incoming, Outgoing

REASON_BYTES = 8_192
LETTER_BYTES = 1_030_000
"""A letter's value, key and headers together, so that the log takes it: a compressed record may be far larger."""


def dead_letter(names: Names, record: Incoming, reason: str, *, code: str = "undecodable") -> Outgoing:
    """The record for the dead-letter topic.

    Value and key are the original's. Its headers are kept; `anabranch_*` headers add the code, the reason and
    the place it came from. Of a record too large for one letter the value is cut, and where that is not enough
    its headers are left out; `anabranch_bytes` then says how large the value was.
    """
    headers = dict(record.headers)
    headers["anabranch_code"] = code.encode()
    headers["anabranch_reason"] = reason.encode()[:REASON_BYTES]
    headers["anabranch_origin"] = f"{record.topic}/{record.partition}/{record.offset}".encode()
    key = record.key.decode("utf-8", "replace") if record.key is not None else None
    room = LETTER_BYTES - _bytes(key, headers)
    if len(record.value) <= room:
        return Outgoing(names.dead_letters, key, record.value, headers=headers)
    if room < 0:
        headers = {name: headers[name] for name in ("anabranch_code", "anabranch_reason", "anabranch_origin")}
        key = None
    headers["anabranch_bytes"] = str(len(record.value)).encode()
    room = LETTER_BYTES - _bytes(key, headers)
    return Outgoing(names.dead_letters, key, record.value[:room], headers=headers)


def _bytes(key: str | None, headers: Mapping[str, bytes]) -> int:
    return len((key or "").encode()) + sum(len(name.encode()) + len(value) + 8 for name, value in headers.items())
