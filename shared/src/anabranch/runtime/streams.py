"""Standard streams that cannot fail: closed, full, left by their reader, or of an encoding with few characters.

Output is lost then, and nothing else: neither the work that is shown nor the exit code. Where standard output is
lost for another reason than a reader that has gone, one line on standard error says so.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, TextIO

from anabranch.core.visible import escaped

GLYPHS: Final = "anabranch.glyphs"
"""The error handler of encodings that lack a character."""
_INSTEAD: Final = {"…": "...", "–": "-", "—": "-", "─": "-", "━": "-", "│": "|", "→": "->", "×": "x", "·": "."}
_FOR_GOOD: Final = (errno.EPIPE, errno.EBADF)
"""A disk may have room again; a pipe never gets another reader."""


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Standard streams that cannot fail, while the context lasts."""
    _open_closed()
    kept = sys.stdout, sys.stderr
    lasting = [_lasting(stream, name) for stream, name in zip(kept, ("output", "error"), strict=True)]
    sys.stdout, sys.stderr = lasting
    try:
        yield
    finally:
        for stream in lasting:
            if isinstance(stream, LastingText):
                stream.settle()
        sys.stdout, sys.stderr = kept


def has_reader(stream: TextIO) -> bool:
    """Whether somebody may still read what is written to a stream."""
    return not (isinstance(stream, LastingText) and stream.is_lost)


class LastingText(io.TextIOWrapper):
    """A text stream over a `_LastingBuffer`. Code that closes it, as a module of agents may, only flushes it."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._underneath = stream  # it would close its buffer as it is collected
        self._lasting = _LastingBuffer(stream.buffer, name)
        super().__init__(
            self._lasting,
            encoding=stream.encoding,
            errors=GLYPHS,
            line_buffering=getattr(stream, "line_buffering", False),
        )

    @property
    def is_lost(self) -> bool:
        return self._lasting.is_lost

    def settle(self) -> None:
        """Write what waits, or give it up: the interpreter's end flushes once more, and would fail."""
        self.flush()
        self._lasting.settle()

    def close(self) -> None:
        self.flush()

    def __del__(self) -> None:
        """Nothing: the stream underneath is the process's."""


class _LastingBuffer(io.BufferedIOBase):
    def __init__(self, inner: BinaryIO, name: str) -> None:
        self.is_lost = False
        self.name = getattr(inner, "name", f"<std{name}>")
        self.mode = "wb"
        self._inner = inner
        self._name = name
        self._failed: OSError | ValueError | None = None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._inner.isatty()

    def fileno(self) -> int:
        return self._inner.fileno()

    def write(self, data: Any) -> int:
        with self._without_failing():
            self._write(bytes(data))
        return len(data)

    def flush(self) -> None:
        with self._without_failing():
            while True:
                try:
                    return self._inner.flush()
                except BlockingIOError:
                    self._wait()

    def close(self) -> None:
        """Nothing: it is called when this object is collected, and the stream underneath may be closed then."""

    def settle(self) -> None:
        if self._failed is not None:
            self._lose()
            self.flush()

    def _write(self, data: bytes) -> None:
        """Write all of it. With PYTHONUNBUFFERED the stream underneath has no buffer, and may take a part."""
        rest = memoryview(data)
        while rest:
            try:
                written: int | None = self._inner.write(rest)
            except BlockingIOError as full:  # somebody who shares the terminal made it non-blocking
                written = full.characters_written
                self._wait()
            if written is None:  # the same, without a buffer
                self._wait()
            rest = rest[written or 0 :]

    def _wait(self) -> None:
        select.select([], [self._inner.fileno()], [])

    @contextlib.contextmanager
    def _without_failing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # a ValueError where somebody closed the stream underneath
            first, self._failed = self._failed is None, error
            if getattr(error, "errno", errno.EBADF) in _FOR_GOOD:
                self._lose()
            if first and getattr(error, "errno", None) != errno.EPIPE:
                self._say(error)

    def _lose(self) -> None:
        """Send the descriptor nowhere, so that neither programs of an agent nor the interpreter fail with it."""
        self.is_lost = True
        with contextlib.suppress(OSError, ValueError):
            number = self._inner.fileno()
            _redirect(os.open(os.devnull, os.O_WRONLY), number)

    def _say(self, error: Exception) -> None:
        if self._name != "output":
            return
        reason = getattr(error, "strerror", None) or str(error)
        sys.stderr.write(f"anabranch: standard output cannot be written ({reason}): what was printed is lost\n")
        sys.stderr.flush()


def _lasting(stream: Any, name: str) -> Any:
    is_plain = isinstance(stream, io.TextIOWrapper) and not isinstance(stream, LastingText)
    return LastingText(stream, name) if is_plain else stream


def _open_closed() -> None:
    """Open the standard streams that the process was started without: the next file would get their number, and
    what is printed would go there."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        nowhere = os.open(os.devnull, os.O_RDWR)
        if not _is_open(number):
            nowhere = _redirect(nowhere, number)
        setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", closefd=False))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _redirect(source: int, target: int) -> int:
    if source != target:
        os.dup2(source, target)
        os.close(source)
    return target


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_INSTEAD.get(each) or escaped(each) for each in lacking), error.end


codecs.register_error(GLYPHS, _substitute)
