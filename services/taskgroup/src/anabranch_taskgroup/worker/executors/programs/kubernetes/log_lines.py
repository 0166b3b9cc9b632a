"""Reads the log of a pod: splits chunks into lines, and skips after a reconnect what has been read before."""

from __future__ import annotations

from collections.abc import Iterator


class LineSplitter:
    """Splits a stream of chunks into lines without their line breaks.

    A line of more than `limit` bytes is cut, so that a stream without line breaks takes bounded memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest: list[bytes] = []
        self._room = limit

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Return the lines that a chunk completes."""
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._keep(line)
            yield self._taken()
        self._keep(rest)

    def finish(self) -> Iterator[bytes]:
        """Return the last line, if it has no line break."""
        if self._rest:
            yield self._taken()

    def _keep(self, piece: bytes) -> None:
        if piece and self._room > 0:
            self._rest.append(piece[: self._room])
            self._room -= len(piece)

    def _taken(self) -> bytes:
        line = b"".join(self._rest)
        self._rest.clear()
        self._room = self._limit
        return line


class LogCursor:
    """Position in a log with timestamps.

    The server reads from a whole second on, so after a reconnect lines come again: those up to the last timestamp
    are skipped, and as many with the same timestamp as were read.
    """

    def __init__(self) -> None:
        self._last = ""
        self._count = 0
        self._again = 0

    @property
    def since(self) -> str | None:
        """The timestamp to continue from; None: from the start."""
        return self._last or None

    def reconnected(self) -> None:
        """Expect lines that were read before."""
        self._again = self._count

    def line(self, raw: bytes) -> str | None:
        """The text of a line `TIMESTAMP TEXT`; None if it was read before."""
        stamp, _, text = raw.decode(errors="replace").partition(" ")
        key = _sortable(stamp)
        known = _sortable(self._last)
        if self._last and key < known:
            return None
        if self._last and key == known:
            if self._again:
                self._again -= 1
                return None
            self._count += 1
            return text
        self._last, self._count, self._again = stamp, 1, 0
        return text


def _sortable(stamp: str) -> str:
    """RFC 3339 with nanoseconds, whose trailing zeros servers leave out, as text that sorts by time."""
    seconds, _, fraction = stamp.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"
