"""Tracebacks of failed members under the lines that tell of them."""

from __future__ import annotations

from collections.abc import Iterator

from anabranch.cli.output import say

SHOWN = 3
"""Tracebacks that a command shows in all, each of other lines of code."""


class Tracebacks:
    """Shows the first few tracebacks that differ in more than their message."""

    def __init__(self) -> None:
        self._shown: set[tuple[str, ...]] = set()

    def say(self, traceback: str | None) -> None:
        """Show a traceback on standard error, unless one like it was shown or enough were."""
        for line in self.lines(traceback):
            say(line)

    def lines(self, traceback: str | None) -> Iterator[str]:
        """The lines that `say` shows."""
        if traceback is None:
            return
        frames = tuple(line for line in traceback.splitlines() if line.lstrip(" |").startswith("File "))
        if frames not in self._shown and len(self._shown) < SHOWN:
            self._shown.add(frames)
            yield from indented(traceback)


def indented(traceback: str) -> list[str]:
    """The lines of a traceback below the line that it belongs to."""
    return [f"    {line}".rstrip() for line in traceback.rstrip().splitlines()]
