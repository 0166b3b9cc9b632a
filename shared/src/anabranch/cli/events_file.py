"""The file of `--events-file`: lifecycle events, one JSON a line, made anew for each run."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Protocol

from anabranch.cli.output import say
from anabranch.core.errors import Misconfigured


class Lines(Protocol):
    """Where lines of events are written to."""

    def write(self, data: bytes, /) -> int: ...

    def flush(self) -> None: ...


class EventsFile:
    """An open file of events. Where it cannot be written any more it is said once, and the run goes on."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file: IO[bytes] | None = file

    @classmethod
    def create(cls, path: Path) -> EventsFile:
        """Raises Misconfigured where the file cannot be made."""
        try:
            return cls(path, path.open("wb", buffering=0))
        except OSError as error:
            raise Misconfigured("--events-file", f"{path} cannot be written: {error.strerror}") from error

    def write(self, data: bytes) -> int:
        """Append lines, or as much of them as there is room for."""
        rest = memoryview(data)
        try:
            while rest and self._file is not None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            say(f"anabranch: --events-file: {self._path} cannot be written ({error.strerror}), events are missing")
            self.close()
        return len(data)

    def flush(self) -> None:
        """Nothing: nothing waits."""

    def close(self) -> None:
        """Close it; again is nothing."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
