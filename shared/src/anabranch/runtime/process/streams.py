"""Standard streams whose writes never raise: if closed, on a full disk, without a reader, or of a limited
encoding.

In these cases only output is lost; the command's work and exit code stay. If standard output fails for another
reason than a closed pipe, one line on standard error says so.

Agents may replace `sys.stdout` and `sys.stderr`, and two threads that use `redirect_stdout` at once can leave a
wrong stream there permanently. Commands therefore print to the streams they were started with.
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
"""Encoding error handler for characters that the encoding lacks."""
_SUBSTITUTES: Final = {"…": "...", "–": "-", "—": "-", "─": "-", "━": "-", "│": "|", "→": "->", "×": "x", "·": "."}
_PERMANENT: Final = (errno.EPIPE, errno.EBADF)
"""Errors after which no later write can succeed. Others are temporary: a full disk may have space again."""


_of_command: dict[str, TextIO] = {}
"""The standard streams of the command in this process, by their names in `sys`."""


def standard_output() -> TextIO:
    """The command's standard output, even if an agent has replaced `sys.stdout`."""
    return _own(sys.stdout, "stdout")


def standard_error() -> TextIO:
    """The command's standard error, even if an agent has replaced `sys.stderr`."""
    return _own(sys.stderr, "stderr")


def _own(present: TextIO, name: str) -> TextIO:
    """The command's stream, or rich's proxy of it, which prints above a live view."""
    own = _of_command.get(name, present)
    return present if getattr(present, "rich_proxied_file", None) is own else own


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Replace the standard streams by ones whose writes never raise, while the context is open."""
    _open_closed()
    kept = sys.stdout, sys.stderr
    lasting = [_lasting(stream, name) for stream, name in zip(kept, ("output", "error"), strict=True)]
    sys.stdout, sys.stderr = lasting
    before = dict(_of_command)
    _of_command.update(stdout=sys.stdout, stderr=sys.stderr)
    try:
        yield
    finally:
        _of_command.clear()
        _of_command.update(before)
        for stream in lasting:
            if isinstance(stream, LastingText):
                stream.settle()
        sys.stdout, sys.stderr = kept


def has_reader(stream: TextIO) -> bool:
    """True if a stream may still have a reader."""
    return not (isinstance(stream, LastingText) and stream.is_lost)


class LastingText(io.TextIOWrapper):
    """A text stream over a `_LastingBuffer`. `close`, which code of agents may call, only flushes it."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._underneath = stream  # its finalizer would close its buffer
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
        """Write buffered output or discard it: otherwise the interpreter's final flush would fail."""
        self.flush()
        self._lasting.settle()

    def close(self) -> None:
        self.flush()

    def __del__(self) -> None:
        """Does nothing: the underlying stream belongs to the process."""


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
        """Does nothing: the finalizer calls this, when the underlying stream may be closed already."""

    def settle(self) -> None:
        if self._failed is not None:
            self._discard_output()
            self.flush()

    def _write(self, data: bytes) -> None:
        """Write all bytes. With PYTHONUNBUFFERED the underlying stream is unbuffered and may write only a part."""
        rest = memoryview(data)
        while rest:
            try:
                written: int | None = self._inner.write(rest)
            except BlockingIOError as full:  # another process sharing the terminal made it non-blocking
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
        except (OSError, ValueError) as error:  # a ValueError if the underlying stream was closed
            first, self._failed = self._failed is None, error
            if getattr(error, "errno", errno.EBADF) in _PERMANENT:
                self._discard_output()
            if first and getattr(error, "errno", None) != errno.EPIPE:
                self._print_loss(error)

    def _discard_output(self) -> None:
        """Redirect the descriptor to the null device, so that subprocesses of agents and the interpreter do not
        fail."""
        self.is_lost = True
        with contextlib.suppress(OSError, ValueError):
            number = self._inner.fileno()
            _redirect(os.open(os.devnull, os.O_WRONLY), number)

    def _print_loss(self, error: Exception) -> None:
        if self._name != "output":
            return
        reason = getattr(error, "strerror", None) or str(error)
        stream = standard_error()
        stream.write(f"anabranch: cannot write standard output ({reason}): the rest of the output is lost\n")
        stream.flush()


def _lasting(stream: Any, name: str) -> Any:
    # Other streams, such as pytest's capture or a notebook's, belong to their tool and have no `buffer` to wrap.
    is_plain = isinstance(stream, io.TextIOWrapper) and not isinstance(stream, LastingText)
    return LastingText(stream, name) if is_plain else stream


def _open_closed() -> None:
    """Open missing standard descriptors on the null device. Otherwise the next opened file would get such a
    number, and output would be written into that file."""
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
    return "".join(_SUBSTITUTES.get(each) or escaped(each) for each in lacking), error.end


codecs.register_error(GLYPHS, _substitute)
