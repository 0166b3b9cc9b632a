"""What a program prints: lines for the run, and the last ones for an error. Also cuts bytes into lines, for
engines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from anabranch.sdk.programs.spec import MAX_LINE_BYTES, OutputMode
from anabranch.sdk.task import Task
from anabranch_taskgroup.worker.executors.programs.engine import Stream

LAST_LINES = 20
LAST_CHARACTERS = 1_500
"""Characters of the last lines in an error, whose message has 2,000."""


class PrintedLines:
    """The lines of one execution.

    Args:
        output: of the program. Lines of stdout that are its result as JSON are not logged.
    """

    def __init__(self, member: Task, output: OutputMode) -> None:
        self._member = member
        self._skips_stdout = output == "stdout-json"
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    def add(self, stream: Stream, line: str) -> None:
        """A line of the program. A `LineSink`."""
        if (stream == "stdout" and self._skips_stdout) or not line.strip():
            return
        self._last.append(line)
        self._member.log.line(line, stream=stream)

    @property
    def last(self) -> str:
        """The last lines as one text."""
        text = "\n".join(self._last)
        return text if len(text) <= LAST_CHARACTERS else "…" + text[1 - LAST_CHARACTERS :]


class LineSplitter:
    """Cuts the bytes of a stream into lines of `MAX_LINE_BYTES` at most; the rest of a longer line is dropped."""

    def __init__(self, sink: Callable[[str], None]) -> None:
        self._sink = sink
        self._rest = b""
        self._drops = False

    def feed(self, data: bytes) -> None:
        """Take bytes of the stream, and pass on the lines that are complete."""
        for part in _parts(data):
            is_end = part.endswith(b"\n")
            if not self._drops:
                self._rest += part.rstrip(b"\r\n") if is_end else part
                if len(self._rest) > MAX_LINE_BYTES:
                    self._pass_on(self._rest[:MAX_LINE_BYTES], " … (cut)")
                    self._drops = True
                elif is_end:
                    self._pass_on(self._rest)
            if is_end:
                self._drops = False

    def close(self) -> None:
        """Pass on a last line without a line break."""
        if self._rest:
            self._pass_on(self._rest)

    def _pass_on(self, line: bytes, note: str = "") -> None:
        self._rest = b""
        self._sink(line.decode("utf-8", "replace") + note)


def _parts(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        stop = len(data) if end < 0 else end + 1
        yield data[start:stop]
        start = stop
