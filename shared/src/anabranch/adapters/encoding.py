"""Converts the key and headers of a record to bytes and pairs, for every log adapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from anabranch.ports import Headers, Outgoing


def key_bytes(record: Outgoing) -> bytes | None:
    """The key as bytes."""
    return record.key.encode() if isinstance(record.key, str) else record.key


def header_items(headers: Mapping[str, bytes] | Headers) -> Iterable[tuple[str, bytes | None]]:
    """The headers as pairs, in order, without a copy."""
    # `dict` first: the check for an abstract class calls Python code.
    return headers.items() if isinstance(headers, (dict, Mapping)) else headers


def header_pairs(record: Outgoing) -> Headers:
    """The headers as pairs, in order."""
    return tuple(header_items(record.headers)) if record.headers else ()


def headers_size(headers: Headers) -> int:
    """Total bytes of the names and values."""
    size = 0
    for name, value in headers:
        # The length of a name is that of its UTF-8 only in ASCII.
        size += len(name if name.isascii() else name.encode()) + len(value or b"")
    return size
