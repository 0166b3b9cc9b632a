"""Reads a request file: JSON or YAML, by its suffix, else by its content. `core.request.admission` validates
it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from anabranch.core.errors import Problem, RequestRefused
from anabranch.core.json_documents import MAX_BYTES, Format, load_document

UNREADABLE = "unreadable"
"""Code of the problem for a file that cannot be read."""

_FORMATS: dict[str, Format] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}


def read_document(path: Path) -> Any:
    """Read and parse a file; returns its document.

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
    """Parse a document. Without a format, try JSON first, then YAML.

    Raises:
        RequestRefused: the data is neither. Data that begins with `{` or `[` gets the error of the JSON parser.
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
    """Read a file or pipe up to one byte beyond the size limit, so that an endless one is refused without reading
    all of it."""
    return file.read(MAX_BYTES + 1)


def unreadable(what: str, reason: str, hint: str = "check the path") -> RequestRefused:
    """The error for a file that cannot be read."""
    return RequestRefused([Problem(UNREADABLE, "", f"{what} cannot be read: {reason}", hint)])
