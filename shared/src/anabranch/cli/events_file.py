"""The file of `--events-file`: lifecycle events as JSON lines. Each run overwrites it."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Protocol

from anabranch.cli.render.output import say
from anabranch.core.errors import Misconfigured


class Lines(Protocol):
    """Destination of event lines."""

    def write(self, data: bytes, /) -> int: ...

    def flush(self) -> None: ...


class EventsFile:
    """An open events file. The first failed write prints a warning and closes the file; the run continues."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file: IO[bytes] | None = file

    @classmethod
    def create(cls, path: Path) -> EventsFile:
        """Open the file. Raises Misconfigured if it cannot be created."""
        try:
            return cls(path, path.open("wb", buffering=0))
        except OSError as error:
            raise Misconfigured("--events-file", f"cannot write {path}: {error.strerror}") from error

    def write(self, data: bytes) -> int:
        """Append lines. Returns the length of `data` even if the disk is full."""
        rest = memoryview(data)
        try:
            # An unbuffered write may write only a part.
            while rest and self._file is not None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            say(f"anabranch: --events-file: cannot write {self._path} ({error.strerror}): later events are lost")
            self.close()
        return len(data)

    def flush(self) -> None:
        """Does nothing: writes are not buffered."""

    def close(self) -> None:
        """Close the file. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
