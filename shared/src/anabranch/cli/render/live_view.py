"""Shows the progress of a run on standard error: a live tree on a terminal, else plain lines."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from anabranch.cli.render.output import say, terminal
from anabranch.cli.render.progress import GroupProgress, RunProgress, TaskProgress
from anabranch.cli.render.rates import RateMeter
from anabranch.cli.render.tree import ASCII, UNICODE, Canvas, draw, fraction, took
from anabranch.core.flow_texts import text_of_loop
from anabranch.ports import Clock

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

LINE_SECONDS = 2.0
"""Seconds between two plain lines about the members of a task."""
FRAMES = 8
"""Frames per second of the live tree."""


class View(Protocol):
    """Shows a run. A context manager, open while the run is followed."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, progress: RunProgress) -> None:
        """Show the state after an event."""

    def note(self, text: str) -> None:
        """Print a line for people."""

    def waits(self, reason: str | None) -> None:
        """Show the missing worker or agent that the run waits for; None once the run continues."""


def view_for(clock: Clock) -> View:
    """A live tree if standard error is a terminal that can move the cursor, else plain lines."""
    # On standard error, because standard output may be a file or a pipe.
    is_live = sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return LiveView(clock) if is_live else PlainView(clock)


class PlainView:
    """Prints a line for each task that ends, and every LINE_SECONDS one for each running fan-out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._printed_at = clock.monotonic()
        self._printed: set[tuple[str, str]] = set()
        self._waits: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def note(self, text: str) -> None:
        say(text)

    def waits(self, reason: str | None) -> None:
        if reason is not None and reason != self._waits:
            say(f"  waits: {reason}")
        self._waits = reason

    def update(self, progress: RunProgress) -> None:
        for group in progress.groups.values():
            for task in group.tasks.values():
                self._task(group, task)
        if self._clock.monotonic() - self._printed_at >= LINE_SECONDS:
            self._printed_at = self._clock.monotonic()
            for line in running_lines(progress):
                say(line)

    def _task(self, group: GroupProgress, task: TaskProgress) -> None:
        # The tasks of a loop end with each iteration, which may be a million times: the loop stands for them.
        if task.ended is None or task.iteration or (group.name, task.name) in self._printed:
            return
        self._printed.add((group.name, task.name))
        figures = f" {fraction(task)}" if task.expanded else took(task)
        if task.loop is not None:
            figures = f" {text_of_loop(task.loop)}{figures}"
        say(f"  {group.name}/{task.name}: {task.status}{figures}")


def running_lines(progress: RunProgress) -> list[str]:
    """One line for each running expanded task, and each running loop."""
    return [
        f"  {group.name}/{group.path(task)}: {fraction(task) if task.loop is None else text_of_loop(task.loop)}"
        for group in progress.groups.values()
        for task in group.tasks.values()
        if (task.expanded or task.loop is not None) and task.status == "running"
    ]


class LiveView:
    """Draws a tree of groups and tasks, FRAMES times per second.

    During the run, the tree is no higher than the terminal. The last drawing remains, in full height.
    """

    def __init__(self, clock: Clock, console: Console | None = None) -> None:
        from rich.live import Live

        self._clock = clock
        self._console = console or terminal(stderr=True)
        self._signs = ASCII if self._console.options.ascii_only else UNICODE
        self._progress: RunProgress | None = None
        self._rates = RateMeter()
        self._began = clock.monotonic()
        self._ended: float | None = None
        self._waits: str | None = None
        self._live = Live(console=self._console, refresh_per_second=FRAMES, get_renderable=self._draw)

    def __enter__(self) -> Self:
        self._began = self._clock.monotonic()
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = self._clock.monotonic()
        # The last drawing stays on the screen, so it may scroll; a drawing that is replaced may not.
        self._live.vertical_overflow = "visible"
        self._live.refresh()
        self._live.stop()

    def update(self, progress: RunProgress) -> None:
        self._progress = progress

    def waits(self, reason: str | None) -> None:
        self._waits = reason

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def _draw(self) -> Tree | str:
        if self._progress is None:
            return ""
        elapsed = (self._ended or self._clock.monotonic()) - self._began
        height = None if self._ended is not None else self._console.height - 1
        canvas = Canvas(self._console.width, height, elapsed, self._waits, self._signs)
        return draw(self._progress, canvas, self._rates)
