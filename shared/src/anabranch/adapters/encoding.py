"""Converts the key and headers of a record to bytes and pairs, for every log adapter."""

from __future__ import annotations

from collections.abc import Mapping

from anabranch.ports import Headers, Outgoing


def key_bytes(record: Outgoing) -> bytes | None:
    """The key as bytes."""
    return record.key.encode() if isinstance(record.key, str) else record.key


def header_pairs(record: Outgoing) -> Headers:
    """The headers as pairs, in order."""
    headers = record.headers
    if type(headers) is tuple:
        return headers
    # `dict` first: the check for an abstract class calls Python code.
    return tuple(headers.items()) if isinstance(headers, (dict, Mapping)) else tuple(headers)


def headers_size(headers: Headers) -> int:
    """Total bytes of the names and values."""
    return sum(len(name.encode()) + len(value or b"") for name, value in headers)
