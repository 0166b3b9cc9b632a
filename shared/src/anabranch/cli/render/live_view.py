"""How a run is shown while it goes on: a live tree on a terminal, else a few plain lines; always on standard
error. Shows what `progress` has counted and decides nothing."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from anabranch.cli.render.output import say, terminal
from anabranch.cli.render.progress import GroupProgress, RunProgress, TaskProgress
from anabranch.cli.render.rates import RateMeter
from anabranch.cli.render.tree import ASCII, UNICODE, Canvas, draw, fraction, took
from anabranch.ports import Clock

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

LINE_SECONDS = 2.0
"""Between two lines on the members of a task."""
FRAMES = 8
"""Drawings a second."""


class View(Protocol):
    """Is told of each change."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, progress: RunProgress) -> None: ...

    def note(self, text: str) -> None: ...

    def waits(self, reason: str | None) -> None:
        """Show the missing worker or agent that the run waits for; None once the run goes on."""


def view_for(clock: Clock) -> View:
    """The view that fits standard error."""
    draws = sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return LiveView(clock) if draws else PlainView(clock)


class PlainView:
    """A line for each group and task that ends, and one now and then for the members of a task."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said_at = clock.monotonic()
        self._told: set[tuple[str, str]] = set()
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
        if self._clock.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = self._clock.monotonic()
            for line in running_lines(progress):
                say(line)

    def _task(self, group: GroupProgress, task: TaskProgress) -> None:
        if task.ended is None or (group.name, task.name) in self._told:
            return
        self._told.add((group.name, task.name))
        figures = f" {fraction(task)}" if task.expanded else took(task)
        say(f"  {group.name}/{task.name}: {task.status}{figures}")


def running_lines(progress: RunProgress) -> list[str]:
    """A line for each expanded task that is at work."""
    return [
        f"  {group.name}/{task.name}: {fraction(task)}"
        for group in progress.groups.values()
        for task in group.tasks.values()
        if task.expanded and task.status == "running"
    ]


class LiveView:
    """A tree of groups and tasks that is drawn anew a few times a second.

    While the run goes on it is no higher than the terminal; the last drawing stays, and may be.
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
