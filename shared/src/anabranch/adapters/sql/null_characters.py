"""Removes null characters: PostgreSQL stores none, neither in text nor in JSON."""

from __future__ import annotations

import re
from typing import Any

from psycopg.types.string import StrDumper, StrDumperUnknown

_ESCAPED = b"\\u0000"
# Preceded by an even number of backslashes: after an odd one, `u0000` is text.
_IN_JSON = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def json_without_null(document: bytes) -> bytes:
    """Encoded JSON without null characters in its texts."""
    while _ESCAPED in document:
        document, count = _IN_JSON.subn(rb"\1", document)
        if not count:
            break
    return document


class _Text(StrDumper):
    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\x00", ""))


class _TextOfAnyType(StrDumperUnknown):
    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\x00", ""))


def strip_null(connection: Any, _: object = None) -> None:
    """Make a connection of psycopg remove null characters from the texts of parameters."""
    connection.adapters.register_dumper(str, _Text)
    connection.adapters.register_dumper(str, _TextOfAnyType)
