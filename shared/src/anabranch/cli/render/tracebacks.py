"""Prints tracebacks of failed members below their failure lines."""

from __future__ import annotations

from collections.abc import Iterator

from anabranch.cli.render.output import say

SHOWN = 3
"""Maximum number of different tracebacks that a command prints."""


class Tracebacks:
    """Prints the first few tracebacks that differ in more than their message."""

    def __init__(self) -> None:
        self._shown: set[tuple[str, ...]] = set()

    def say(self, traceback: str | None) -> None:
        """Print a traceback on standard error, unless a similar one was printed or the maximum is reached."""
        for line in self.lines(traceback):
            say(line)

    def lines(self, traceback: str | None) -> Iterator[str]:
        """The lines that `say` prints."""
        if traceback is None:
            return
        frames = tuple(line for line in traceback.splitlines() if line.lstrip(" |").startswith("File "))
        if frames not in self._shown and len(self._shown) < SHOWN:
            self._shown.add(frames)
            yield from indented(traceback)


def indented(traceback: str) -> list[str]:
    """The lines of a traceback, indented below its failure line."""
    return [f"    {line}".rstrip() for line in traceback.rstrip().splitlines()]
