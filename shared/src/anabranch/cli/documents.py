"""A request's file as a command gets it: by path, or `-` for standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from anabranch.sdk.request_file import parse_document, read_document, unreadable


def load(file: str) -> Any:
    """The document.

    Raises:
        RequestRefused: it cannot be read, or is neither JSON nor YAML.
    """
    if file != "-":
        return read_document(Path(file))
    try:
        return parse_document(sys.stdin.buffer.read())
    except OSError as error:
        raise unreadable("standard input", error.strerror or str(error)) from error
