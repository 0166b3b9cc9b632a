"""Decodes the log of a container, as the engine sends it, into lines. Pure: bytes in, lines out.

The engine sends frames: one byte for the stream, three of zero, four for the length, and then the text. Each frame
is one entry of the log and begins with its time, if the request asks for it. An entry is a line with its line
break, or a part of a long line without one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from anabranch.sdk.programs.spec import MAX_LINE_BYTES
from anabranch_taskgroup.worker.executors.programs.engine import Stream

_HEADER_BYTES = 8
_STREAMS: dict[int, Stream] = {1: "stdout", 2: "stderr"}
_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d) ")
_TIME_BYTES = 40
"""More than the longest time has."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a frame. A frame comes in pieces as it is received, so that its length needs no memory."""

    stream: Stream | None
    data: bytes
    is_first: bool
    is_last: bool


class FrameDecoder:
    """Decodes frames from chunks of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._stream: Stream | None = None
        self._left = 0
        self._is_first = False

    def feed(self, data: bytes) -> list[Piece]:
        """Decode what has arrived. The first piece of a frame has at least its time."""
        self._buffer += data
        pieces: list[Piece] = []
        while True:
            if self._left == 0:
                if not self._read_header():
                    return pieces
                continue
            if len(self._buffer) < (min(self._left, _TIME_BYTES) if self._is_first else 1):
                return pieces
            taken = bytes(self._buffer[: self._left])
            del self._buffer[: len(taken)]
            self._left -= len(taken)
            pieces.append(Piece(self._stream, taken, self._is_first, self._left == 0))
            self._is_first = False

    def _read_header(self) -> bool:
        if len(self._buffer) < _HEADER_BYTES:
            return False
        self._stream = _STREAMS.get(self._buffer[0])
        self._left = int.from_bytes(self._buffer[4:_HEADER_BYTES], "big")
        self._is_first = True
        del self._buffer[:_HEADER_BYTES]
        return True


class LineSplitter:
    """Splits one stream into lines, and cuts lines of more than `MAX_LINE_BYTES`."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._cut = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that end in this data."""
        *ended, rest = data.split(b"\n")
        lines = []
        for part in ended:
            self._add(part)
            lines.append(self._take())
        self._add(rest)
        return lines

    def end(self) -> list[str]:
        """The last line, if it has no line break."""
        return [self._take()] if self._line or self._cut else []

    def _add(self, part: bytes) -> None:
        room = MAX_LINE_BYTES - len(self._line)
        self._line += part[:room]
        self._cut += max(0, len(part) - room)

    def _take(self) -> str:
        line = self._line.decode(errors="replace").removesuffix("\r")
        if self._cut:
            line += f" … ({self._cut:,} more bytes)"
        self._line.clear()
        self._cut = 0
        return line


class LogCursor:
    """Position in the log of one container: reads on after a broken connection, without a line twice.

    An engine reads a log from a second on, and some engines write times without fractions. So the cursor counts
    the entries of the last second, and skips as many after `resume`.
    """

    def __init__(self) -> None:
        self._decoder = FrameDecoder()
        self._splitters: dict[Stream, LineSplitter] = {"stdout": LineSplitter(), "stderr": LineSplitter()}
        self._second = 0
        self._entry = self._bytes = 0
        self._known = (0, 0)

    def resume(self) -> int:
        """Begin a new reading of the log.

        Returns:
            The second, since 1970, from which the engine has to read: 0 for the beginning.
        """
        self._decoder = FrameDecoder()
        # The last reading may have broken before it came to where the one before had been.
        self._known = max(self._known, (self._entry, self._bytes))
        self._entry = self._bytes = 0
        return self._second

    def feed(self, data: bytes) -> list[tuple[Stream, str]]:
        """The lines that end in what has arrived."""
        return [line for piece in self._decoder.feed(data) for line in self._read(piece)]

    def end(self) -> list[tuple[Stream, str]]:
        """The last lines of the streams, if they have no line break."""
        return [(stream, line) for stream, each in self._splitters.items() for line in each.end()]

    def _read(self, piece: Piece) -> list[tuple[Stream, str]]:
        data = self._without_time(piece.data) if piece.is_first else piece.data
        entry, start = self._entry, self._bytes
        self._bytes += len(data)
        if piece.is_last:
            self._entry += 1
            self._bytes = 0
        known_entry, known_bytes = self._known
        if piece.stream is None or entry < known_entry:
            return []
        if entry == known_entry:
            data = data[max(0, known_bytes - start) :]
        return [(piece.stream, line) for line in self._splitters[piece.stream].feed(data)]

    def _without_time(self, data: bytes) -> bytes:
        found = _TIME.match(data)
        if found is None:
            return data
        second = int(datetime.fromisoformat((found[1] + found[2]).decode()).timestamp())
        if second != self._second:
            self._second = second
            self._entry = 0
            self._known = (0, 0)
        return data[found.end() :]


class StdoutCapture:
    """Collects stdout from a log without times: all of it, or its last line that is not blank."""

    def __init__(self, limit: int, *, is_last_line: bool) -> None:
        self._limit = limit
        self._is_last_line = is_last_line
        self._decoder = FrameDecoder()
        self._text = bytearray()
        self._last = b""

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        for piece in self._decoder.feed(data):
            if piece.stream == "stdout":
                self._add(piece.data)

    def result(self) -> bytes | None:
        """What was collected; None if it is larger than the limit."""
        text = bytes(self._text) if self._text.strip() or not self._is_last_line else self._last
        if len(text) > self._limit:
            return None
        return text.rstrip(b"\r") if self._is_last_line else text

    def _add(self, data: bytes) -> None:
        if self._is_last_line:
            *ended, data = data.split(b"\n")
            for part in ended:
                self._append(part)
                if self._text.strip():
                    self._last = bytes(self._text)
                self._text.clear()
        self._append(data)

    def _append(self, data: bytes) -> None:
        # One byte above the limit is enough to tell that there were more.
        self._text += data[: max(0, self._limit + 1 - len(self._text))]
