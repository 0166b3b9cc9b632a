"""Reads a request's file: JSON or YAML, by its name's ending, else by what is in it. Judges nothing more than
that it can be read; what is in it is for `core.admission`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from anabranch.core.errors import Problem, RequestRefused
from anabranch.core.json_documents import MAX_BYTES, Format, load_document

UNREADABLE = "unreadable"
"""The code of the one problem of a file that cannot be read."""

_FORMATS: dict[str, Format] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}


def read_document(path: Path) -> Any:
    """The document in a file.

    Raises:
        RequestRefused: the file cannot be read, or is neither JSON nor YAML.
    """
    try:
        with path.open("rb") as file:
            data = read_bounded(file)
    except OSError as error:
        raise unreadable(str(path), error.strerror or str(error)) from error
    return parse_document(data, _FORMATS.get(path.suffix.lower()))


def parse_document(data: bytes, format: Format | None = None) -> Any:
    """The document in these bytes; without a format JSON is tried first, then YAML.

    Raises:
        RequestRefused: it is neither; the error is that of the format it looks like.
    """
    if format is not None:
        return load_document(data, format)
    try:
        return load_document(data, "json")
    except RequestRefused:
        if data.lstrip()[:1] in (b"{", b"["):
            raise
        return load_document(data, "yaml")


def read_bounded(file: BinaryIO) -> bytes:
    """Read a file or pipe, but only slightly beyond the size limit, so that a larger one is refused without being
    read whole."""
    return file.read(MAX_BYTES + 1)


def unreadable(what: str, reason: str, hint: str = "check the path") -> RequestRefused:
    """The refusal of a file that cannot be read."""
    return RequestRefused([Problem(UNREADABLE, "", f"{what} cannot be read: {reason}", hint)])
