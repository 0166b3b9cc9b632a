"""The document of a request as its checks see it, with the way back to the document as it was sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anabranch.core.errors import Problem

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """The unwrapped and lowered document of a request, and the mapping of its paths to the document as sent.

    ``moved`` maps parts of the request that were elsewhere in the document to their original paths.
    """

    request: Mapping[str, Any]
    base: Path = ()
    moved: Mapping[Path, Path] = field(default_factory=dict)
    errors: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    depth: int = 2
    """Maximum segments of a moved path."""

    def origin(self, path: Path) -> Path:
        """The path in the document as sent of a path in ``request``."""
        # The longest moved path is the most specific one.
        for length in range(min(len(path), self.depth), 0, -1):
            origin = self.moved.get(path[:length])
            if origin is not None:
                return (*origin, *path[length:])
        return (*self.base, *path)

    def pointer(self, path: Path) -> str:
        """The JSON Pointer, in the document as sent, of a path in ``request``."""
        return json_pointer(self.origin(path))


def json_pointer(path: Path) -> str:
    """RFC 6901: ``("a/b", 0)`` -> ``"/a~1b/0"``; the empty path is the whole document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
