"""Draws the tree of a run as styled text: groups, tasks with bars and rates, failures below their task.

Pure: a drawing depends on the progress, the time and the size of the canvas. Signs carry all information, because
NO_COLOR removes the colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anabranch.cli.render.heat import HeatCell
from anabranch.cli.render.output import count, seconds, short_line
from anabranch.cli.render.progress import GroupProgress, RunProgress, TaskProgress
from anabranch.cli.render.rates import Rate, RateMeter
from anabranch.core.flow_texts import text_of_loop
from anabranch.core.progress import percent

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

MAX_TASKS = 12
"""Maximum number of tasks of a group that are drawn; the others are only counted."""
NAME_COLUMNS = (8, 32)
BAR_COLUMNS = (8, 32)
NARROW = 60
"""Width in columns below which no bars are drawn."""
FIGURES = 54
"""Columns reserved for the figures after a bar."""
INDENT = 8


@dataclass(frozen=True, slots=True)
class Signs:
    """Characters of a drawing."""

    marks: dict[str, str]
    waiting: str
    full: str
    rest: str
    levels: str
    """Signs of a heat cell by its share of ended members, from none to all."""
    cell_running: str
    cell_failing: str
    """Sign of a cell in which fewer than half of the members failed."""
    cell_failed: str


UNICODE = Signs(
    {
        "completed": "✓",
        "failed": "✗",
        "running": "●",
        "awaiting": "◌",
        "skipped": "–",
        "cancelled": "■",
        "timed_out": "■",
    },
    "○",
    "━",
    "─",
    "·▁▂▃▄▅▆▇█",
    "░",
    "!",
    "×",
)
ASCII = Signs(
    {
        "completed": "+",
        "failed": "x",
        "running": "*",
        "awaiting": "?",
        "skipped": "-",
        "cancelled": "!",
        "timed_out": "!",
    },
    ".",
    "=",
    "-",
    ".:::::::#",
    "~",
    "!",
    "x",
)
_STYLES = {
    "completed": "green",
    "failed": "red",
    "running": "cyan",
    "compensating": "yellow",
    "awaiting": "magenta",
    "skipped": "yellow",
    "cancelled": "yellow",
    "timed_out": "yellow",
}


@dataclass(frozen=True, slots=True)
class Canvas:
    """Size and characters of a drawing.

    Attributes:
        width, height: in characters; `height` is None for no limit.
        elapsed: seconds since the run began; None if not known.
    """

    width: int = 100
    height: int | None = None
    elapsed: float | None = None
    waits: str | None = None
    """The missing worker or agent that the run waits for."""
    signs: Signs = UNICODE


def draw(progress: RunProgress, canvas: Canvas | None = None, rates: RateMeter | None = None) -> Tree:
    """Draw the tree of a run. `rates` gets a sample of each fan-out, and keeps them between drawings."""
    from rich.tree import Tree

    drawing = _Drawing(progress, canvas or Canvas(), rates or RateMeter())
    tree = Tree(drawing.head(), guide_style="dim")
    for group in progress.groups.values():
        branch = tree.add(drawing.group(group))
        for line in drawing.tasks(group):
            branch.add(line)
    return tree


class _Drawing:
    def __init__(self, progress: RunProgress, canvas: Canvas, rates: RateMeter) -> None:
        self._progress = progress
        self._canvas = canvas
        self._rates = rates
        self._names = self._name_columns()
        self._bar = min(BAR_COLUMNS[1], canvas.width - INDENT - 2 - self._names - FIGURES)
        self._collapses = canvas.height is not None and self._lines() > canvas.height

    # --- the head ---------------------------------------------------------------------------------

    def head(self) -> Text:
        progress, canvas = self._progress, self._canvas
        line = self._mark(progress.status)
        line.append(f" {progress.name or 'run'}", style="bold")
        line.append(f" {progress.run_id}", style="dim")
        line.append(f"  {progress.status.replace('_', ' ')}", style=_STYLES.get(progress.status, ""))
        if canvas.elapsed is not None:
            line.append(f"  {seconds(canvas.elapsed)}")
        if (levels := progress.levels) is not None and progress.status in ("submitted", "running", "paused"):
            line.append(f"  level {levels[0]} of {levels[1]}", style="dim")
        total, done = progress.members_total, progress.members_done
        rate = self._rates.add_sample("run", canvas.elapsed or 0.0, done)
        if total > 1 and canvas.width >= NARROW:
            line.append("\n")
            line.append_text(
                self._bar_of(progress.share or 0.0, bool(progress.failed), min(48, canvas.width - 52))
            )
            line.append(f" {percent(progress.share):>4}  {done:,} of {count(total, 'execution')}")
            line.append(self._pace(rate, total - done, progress.status in ("running", "paused")), style="cyan")
        if canvas.waits is not None:
            line.append(f"\n{short_line(f'waits: {canvas.waits}', max(20, canvas.width - 2))}", style="yellow")
        line.truncate(max(20, canvas.width) * 3)
        return line

    # --- groups and tasks ---------------------------------------------------------------------------

    def group(self, group: GroupProgress) -> Text:
        line = self._mark(group.status)
        line.append(f" {group.name}", style="bold")
        if self._is_collapsed(group):
            line.append(f"  {count(len(group.tasks), 'task')}", style="dim")
        return line

    def tasks(self, group: GroupProgress) -> Iterator[Text]:
        """The drawn tasks of a group, one or several lines each. Tasks that are not completed have priority."""
        if self._is_collapsed(group):
            return
        urgent = sorted(group.tasks.values(), key=lambda task: task.status == "completed")[:MAX_TASKS]
        chosen = {id(task) for task in urgent}
        for task in group.tasks.values():
            if id(task) in chosen:
                yield self._task(group, task)
        if len(group.tasks) > len(urgent):
            yield _text(f"and {count(len(group.tasks) - len(urgent), 'more task')}", "dim")

    def _task(self, group: GroupProgress, task: TaskProgress) -> Text:
        line = self._mark(task.status)
        line.append(f" {_fitted(group.path(task), self._names)}  ")
        if task.expanded and task.total and task.status != "waiting":
            self._fan_out(line, group, task)
        elif task.status == "waiting":
            needs = ", ".join(task.needs)
            line.append(f"waits for {needs}" if needs else "waits to start", style="dim")
        elif task.awaits is not None:
            line.append(
                f"waits for {short_line(task.awaits, max(20, self._canvas.width - INDENT))}", style="magenta"
            )
        elif task.loop is not None:
            line.append(text_of_loop(task.loop) + took(task), style="dim")
        elif task.because is not None:
            line.append(short_line(task.because, max(20, self._canvas.width - INDENT)), style="dim")
        else:
            line.append(_retries(task) + took(task).strip(), style="dim")
        line.truncate(max(10, self._canvas.width - INDENT), overflow="ellipsis")
        for extra in (*self._strip(task), *self._failures(task)):
            line.append("\n")
            line.append_text(extra)
        return line

    def _fan_out(self, line: Text, group: GroupProgress, task: TaskProgress) -> None:
        rate = self._rates.add_sample((group.name, task.name), self._canvas.elapsed or 0.0, task.done)
        if self._bar >= BAR_COLUMNS[0]:
            line.append_text(self._bar_of(task.share, bool(task.failures_total), self._bar))
            line.append(" ")
        line.append(fraction(task))
        line.append(self._pace(rate, (task.total or 0) - task.done, task.ended is None), style="cyan")

    def _strip(self, task: TaskProgress) -> Iterator[Text]:
        """The heat strip, while the task runs or if members failed; otherwise the bar has the same information."""
        width = self._canvas.width - INDENT - 4
        if task.heat is None or width < BAR_COLUMNS[0] or (task.ended is not None and not task.failed):
            return
        strip = _text("  ")
        for cell in task.heat.cells(width):
            strip.append(*self._cell(cell))
        yield strip

    def _cell(self, cell: HeatCell) -> tuple[str, str]:
        signs = self._canvas.signs
        if cell.failed:
            return (signs.cell_failed, "red") if 2 * cell.failed >= cell.size else (signs.cell_failing, "yellow")
        if cell.running and not cell.done:
            return signs.cell_running, "cyan"
        steps = len(signs.levels) - 1
        step = -(-cell.done * steps // cell.size) if cell.size else 0
        return signs.levels[min(step, steps)], "green" if step else "dim"

    def _failures(self, task: TaskProgress) -> Iterator[Text]:
        width = max(20, self._canvas.width - INDENT - 4)
        for failure in task.failures:
            where = "" if failure.index is None else f"[{failure.index}] "
            yield _text(f"  {short_line(f'{where}{failure.error_type}: {failure.message}', width)}", "red")
        if task.failures_total > len(task.failures):
            yield _text(f"  and {count(task.failures_total - len(task.failures), 'more failure')}", "red")

    # --- parts ------------------------------------------------------------------------------------

    def _mark(self, status: str) -> Text:
        signs = self._canvas.signs
        return _text(signs.marks.get(status, signs.waiting), _STYLES.get(status, "dim"))

    def _bar_of(self, share: float, failed: bool, width: int) -> Text:
        # The small addend keeps a share such as 0.29 * 100 = 28.999999999999996 from losing a column.
        filled = min(width, int(width * share + 1e-6))
        bar = _text(self._canvas.signs.full * filled, "red" if failed else "green")
        return bar.append(self._canvas.signs.rest * (width - filled), style="dim")

    def _pace(self, rate: Rate, left: int, is_open: bool) -> str:
        per_second = rate.per_second
        if not is_open or not per_second or per_second < 0.05:
            return ""
        remaining = rate.remaining(left) or 0.0
        pace = f"  {per_second:,.0f}/s" if per_second >= 10 else f"  {per_second:.1f}/s"
        return pace + (f", {seconds(remaining)} left" if remaining >= 1 else "")

    def _is_collapsed(self, group: GroupProgress) -> bool:
        """True if a group is drawn without its tasks, to fit the height of the terminal."""
        return self._collapses and group.status in ("completed", "waiting", "skipped")

    def _lines(self) -> int:
        extra = sum(bool(task.heat) + len(task.failures) for task in self._progress.tasks)
        shown = sum(1 + min(len(group.tasks), MAX_TASKS + 1) for group in self._progress.groups.values())
        return 2 + (self._canvas.waits is not None) + shown + extra

    def _name_columns(self) -> int:
        from rich.cells import cell_len

        groups = self._progress.groups.values()
        longest = max((cell_len(group.path(task)) for group in groups for task in group.tasks.values()), default=0)
        return max(NAME_COLUMNS[0], min(longest, NAME_COLUMNS[1], self._canvas.width // 3))


# --- texts that the plain view prints, too ------------------------------------------------------------


def fraction(task: TaskProgress) -> str:
    """Counts of an expanded task: `5 of 10 members, 1 failed, 2 retried in 3.2 s`."""
    total = "?" if task.total is None else f"{task.total:,}"
    failed = f", {task.failed:,} failed" if task.failed else ""
    retried = f", {task.retried:,} retried" if task.retried else ""
    return f"{task.done:,} of {total} members{failed}{retried}{took(task)}"


def took(task: TaskProgress) -> str:
    """Duration of an ended task as ` in 3.2 s`; empty for an open one."""
    if task.began is None or task.ended is None:
        return ""
    return f" in {seconds(max(0.0, task.ended - task.began))}"


def _retries(task: TaskProgress) -> str:
    return f"retried {count(task.retried, 'time')} " if task.retried else ""


def _text(words: str, style: str = "") -> Text:
    from rich.text import Text

    return Text().append(words, style=style)  # Text(words, style) would also style text that is appended later


def _fitted(name: str, columns: int) -> str:
    """The name padded or truncated to exactly `columns` columns of a terminal."""
    from rich.cells import cell_len, set_cell_size

    return set_cell_size(name, columns) if cell_len(name) <= columns else set_cell_size(name, columns - 1) + "…"
