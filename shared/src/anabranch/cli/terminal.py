"""rich's console as this command uses it: whatever is printed, no control character of it reaches the terminal.

A module of its own, for rich takes a while to import.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from anabranch.core.visible import visible


class Terminal(Console):
    """Everything that is printed or drawn passes `render`, tables and live views too."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed. Those that move the cursor are rich's own."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            shown = text if control else visible(text)
            yield segment if shown is text else Segment(shown, style)
