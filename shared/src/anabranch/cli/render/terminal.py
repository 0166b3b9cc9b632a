"""rich's console without control characters in the printed text: they are shown as escapes.

A separate module, because importing rich is slow.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from anabranch.core.visible import visible


class Terminal(Console):
    """A console that escapes control characters in `render`, which all output passes, tables and live views
    too."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of the output with escapes. Control segments, which move the cursor, are made by rich and
        are not changed."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            shown = text if control else visible(text)
            yield segment if shown is text else Segment(shown, style)
