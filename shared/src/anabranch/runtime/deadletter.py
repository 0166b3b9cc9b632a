"""Dead letters: the original bytes and headers of a record that cannot be handled, with the reason."""

from __future__ import annotations

from anabranch.core.names import Names
from anabranch.ports import Incoming, Outgoing

REASON_BYTES = 8_192


def dead_letter(names: Names, record: Incoming, reason: str, *, code: str = "undecodable") -> Outgoing:
    """The record for the dead-letter topic.

    Value and key are the original's. Its headers are kept; `anabranch_*` headers add the code, the reason and
    the place it came from.
    """
    headers = dict(record.headers)
    headers["anabranch_code"] = code.encode()
    headers["anabranch_reason"] = reason.encode()[:REASON_BYTES]
    headers["anabranch_origin"] = f"{record.topic}/{record.partition}/{record.offset}".encode()
    key = record.key.decode("utf-8", "replace") if record.key is not None else None
    return Outgoing(names.dead_letters, key, record.value, headers=headers)
