"""How a run is shown while it goes on: a live tree on a terminal, else a few plain lines; always on standard
error. Shows what `progress` has counted and decides nothing."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from anabranch.cli.output import count, say, seconds
from anabranch.cli.progress import GroupProgress, RunProgress, TaskProgress
from anabranch.ports import Clock

if TYPE_CHECKING:
    from rich.tree import Tree

LINE_SECONDS = 2.0
"""Between two lines on the members of a task."""
MOST_TASKS = 12
"""Of a group that are shown live; the rest is summed up."""

_MARKS = {
    "completed": "[green]✓[/]",
    "failed": "[red]✗[/]",
    "running": "[cyan]●[/]",
    "skipped": "[yellow]–[/]",
    "cancelled": "[yellow]■[/]",
    "timed_out": "[yellow]■[/]",
}
_BAR = 24


class View(Protocol):
    """Is told of each change."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, progress: RunProgress) -> None: ...

    def note(self, text: str) -> None: ...


def view_for(clock: Clock) -> View:
    """The view that fits standard error."""
    return LiveView() if sys.stderr.isatty() else PlainView(clock)


class PlainView:
    """A line for each group and task that ends, and one now and then for the members of a task."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said_at = clock.monotonic()
        self._told: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def note(self, text: str) -> None:
        say(text)

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
        say(f"  {group.name}/{task.name}: {task.status}{_figures(task)}")


def running_lines(progress: RunProgress) -> list[str]:
    """A line for each expanded task that is at work."""
    return [
        f"  {group.name}/{task.name}: {_fraction(task)}"
        for group in progress.groups.values()
        for task in group.tasks.values()
        if task.expanded and task.status == "running"
    ]


class LiveView:
    """A tree of groups and tasks that is drawn anew a few times a second."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._progress: RunProgress | None = None
        self._live = Live(console=self._console, refresh_per_second=8, get_renderable=self._draw)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.refresh()
        self._live.stop()

    def update(self, progress: RunProgress) -> None:
        self._progress = progress

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def _draw(self) -> Tree | str:
        return "" if self._progress is None else draw(self._progress)


def draw(progress: RunProgress) -> Tree:
    """The tree of a run."""
    from rich.tree import Tree

    tree = Tree(f"{_mark(progress.status)} run [bold]{progress.run_id}[/] {progress.status}")
    for group in progress.groups.values():
        branch = tree.add(f"{_mark(group.status)} [bold]{_safe(group.name)}[/]")
        tasks = sorted(group.tasks.values(), key=lambda task: task.status == "completed")
        shown = [task for task in group.tasks.values() if task in tasks[:MOST_TASKS]]
        for task in shown:
            branch.add(_task_line(task))
        if len(tasks) > len(shown):
            branch.add(f"[dim]and {count(len(tasks) - len(shown), 'more task')}[/]")
    return tree


def _task_line(task: TaskProgress) -> str:
    line = f"{_mark(task.status)} {_safe(task.name)}"
    if task.expanded and task.total:
        line += f"  {_bar(task)} {_fraction(task)}"
    elif task.status != "waiting":
        line += f"[dim]{_figures(task)}[/]"
    else:
        line += " [dim]waiting[/]"
    return line


def _bar(task: TaskProgress) -> str:
    filled = min(_BAR, _BAR * task.done // (task.total or 1))
    colour = "red" if task.failed else "green"
    return f"[{colour}]{'━' * filled}[/][dim]{'─' * (_BAR - filled)}[/]"


def _fraction(task: TaskProgress) -> str:
    total = "?" if task.total is None else f"{task.total:,}"
    failed = f", {task.failed:,} failed" if task.failed else ""
    retried = f", {task.retried:,} retried" if task.retried else ""
    return f"{task.done:,} of {total} members{failed}{retried}{_took(task)}"


def _figures(task: TaskProgress) -> str:
    if task.expanded:
        return f" {_fraction(task)}"
    return _took(task)


def _took(task: TaskProgress) -> str:
    if task.began is None or task.ended is None:
        return ""
    return f" in {seconds(max(0.0, task.ended - task.began))}"


def _mark(status: str) -> str:
    return _MARKS.get(status, "[dim]○[/]")


def _safe(text: str) -> str:
    """A user's name, with what the console would read as markup escaped."""
    return text.replace("[", "\\[")
