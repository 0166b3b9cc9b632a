"""Reads the request file of a command: a path, or `-` for standard input."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any

from anabranch.sdk.request_file import parse_document, read_bounded, read_document, unreadable


def load(file: str) -> Any:
    """Read and parse the file; returns its document.

    Raises:
        RequestRefused: the file cannot be read, or is neither JSON nor YAML.
    """
    if file != "-":
        path = Path(file)
        if not path.exists() and (near := _similar_file(path)):
            raise unreadable(file, "No such file", f"did you mean {near}?")
        return read_document(path)
    try:
        return parse_document(read_bounded(sys.stdin.buffer))
    except OSError as error:
        raise unreadable("standard input", error.strerror or str(error)) from error


def _similar_file(path: Path) -> str | None:
    """A file in the same folder with a similar name."""
    if not path.parent.is_dir():
        return None
    names = (each.name for each in path.parent.iterdir() if each.is_file())
    found = difflib.get_close_matches(path.name, names, n=1)
    return str(path.with_name(found[0])) if found else None
