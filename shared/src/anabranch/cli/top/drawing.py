"""Draws a snapshot: as one frame that fits a terminal, or as plain text of any length. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anabranch.cli.render.output import count, failure_location, seconds, short_line, used
from anabranch.cli.render.tables import Column, number, status_style, table_of, timestamp
from anabranch.cli.render.tree import ASCII, Canvas, Signs, draw
from anabranch.cli.render.view_progress import progress_of_view
from anabranch.cli.top.screen import KEYS, KEYS_INSIDE, KEYS_TYPING, Screen
from anabranch.cli.top.snapshot import GroupRow, RunRow, Snapshot, Sort
from anabranch.core.progress import percent

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.text import Text

WIDE = 100
"""Minimum width to place workers and failures beside the consumer groups instead of below them."""
BAR = 20
LINES_AROUND = 15
"""Lines of a frame that are not runs: header, consumer groups, table headers, error, key help, and blank lines."""
FAILURES = 2
WORKERS = 6


@dataclass(frozen=True, slots=True)
class Frame:
    """Size and characters of a frame. `height` is None for plain text, which has no maximum length."""

    width: int
    height: int | None
    signs: Signs
    description: str
    """Description of the system and its address."""


def draw_frame(snapshot: Snapshot, screen: Screen, frame: Frame, problem: str = "") -> Group:
    """Draw the whole frame. `problem` is why the snapshot could not be refreshed; empty if it is current."""
    from rich.console import Group

    rows = screen.rows(snapshot)
    parts: list[RenderableType] = [_head(snapshot, frame)]
    if problem:
        parts.append(_text(short_line(f"! {problem}", frame.width), "bold red"))
    selected = (
        next((row for row in rows if row.run_id == screen.selected_id), None) if screen.shows_details else None
    )
    if selected is not None:
        parts += [_text(""), *_run(selected, frame)]
    else:
        parts += [_text(""), _system_state(snapshot, frame), _text(""), _runs(snapshot, rows, screen, frame)]
    if frame.height is not None:
        parts.append(_foot(screen, shows_details=selected is not None))
    return Group(*parts)


# --- around the runs ------------------------------------------------------------------------------


def _head(snapshot: Snapshot, frame: Frame) -> Text:
    runs = snapshot.runs
    line = _text("Anabranch", "bold").append(f"  {frame.description}", style="dim")
    line.append(f"  {datetime.fromtimestamp(snapshot.at, UTC):%H:%M:%S} UTC\n", style="dim")
    line.append(f"{sum(row.is_open for row in runs)} open", style="cyan")
    line.append(f"  {sum(not row.is_open for row in runs)} ended")
    if failed := sum(row.status in ("failed", "timed_out") for row in runs):
        line.append(f"  {failed} failed", style="red")
    line.append(f"  {sum(row.rate or 0.0 for row in runs):,.0f} members/s")
    dead_letters = sum(row.count for row in snapshot.dead_letters)
    line.append(f"  {count(dead_letters, 'dead letter')}", style="red" if dead_letters else "")
    return line


def _system_state(snapshot: Snapshot, frame: Frame) -> RenderableType:
    """Consumer groups, and beside or below them workers, dead letters and failures."""
    from rich.console import Group
    from rich.table import Table

    groups = table_of(GROUP_COLUMNS, snapshot.groups)
    beside = _beside(snapshot, frame.width - 50 if frame.width >= WIDE else frame.width)
    if frame.width < WIDE:
        return groups if frame.height is not None else Group(groups, _text(""), beside)
    grid = Table.grid(padding=(0, 4))
    grid.add_row(groups, beside)
    return grid


def _beside(snapshot: Snapshot, width: int) -> Text:
    lines = [_workers(snapshot)]
    for dead_letter in snapshot.dead_letters[:2]:
        lines.append(_text(short_line(f"{dead_letter.count:,} × {dead_letter.error}", width), "red"))
    if failures := snapshot.failures:
        lines.append(_text("latest failures", "bold"))
    for failure in failures[:FAILURES]:
        line = f"{failure_location(failure)}: {failure['error_type']}: {failure['message']}"
        lines.append(_text(short_line(line, width), "red"))
    return _text("\n").join(lines)


def _workers(snapshot: Snapshot) -> Text:
    line = _text("workers", "bold")
    known = snapshot.workers or {}
    for worker, alive in list(known.items())[:WORKERS]:
        line.append(f"  {worker}" if alive else f"  {worker} not alive", style="green" if alive else "red")
    if len(known) > WORKERS:
        line.append(f"  and {len(known) - WORKERS} more", style="dim")
    return line if known else line.append("  no worker has started a member recently", style="dim")


GROUP_COLUMNS: tuple[Column[GroupRow], ...] = (
    Column("consumer group", lambda row: row.group),
    Column("processes", lambda row: row.members, words=lambda readers: str(readers or "none"), justify="right"),
    Column("lag", lambda row: row.lag, words=number, justify="right"),
)


# --- runs -----------------------------------------------------------------------------------------


def _runs(snapshot: Snapshot, rows: Sequence[RunRow], screen: Screen, frame: Frame) -> RenderableType:
    from rich.console import Group

    title = _text("runs", "bold")
    if screen.sort is not Sort.NEWEST:
        title.append(f"  by {screen.sort}", style="dim")
    if screen.open_only:
        title.append("  open only", style="dim")
    if screen.text or screen.typing:
        title.append(f"  filter: {screen.text}{'_' if screen.typing else ''}", style="yellow")
    if not rows:
        nothing = "no run matches the filter" if snapshot.runs else "no runs yet: anabranch run FILE"
        return Group(title, _text(nothing, "dim"))
    selected_index = screen.selected_index(rows)
    shown = rows if frame.height is None else _window(rows, selected_index, max(3, frame.height - LINES_AROUND))
    columns = _columns(frame)
    if frame.width >= WIDE and any(row.waits for row in shown):
        columns = (*columns, Column("waits", _waits))
    if frame.width >= WIDE and any(row.view.costs for row in shown):
        columns = (*columns, Column("used", _used))
    if frame.height is not None:
        mark = ">" if frame.signs is ASCII else "›"
        columns = (Column("", lambda row: mark if row is rows[selected_index] else " "), *columns)
    return Group(title, table_of(columns, shown, no_wrap=frame.height is not None))


def _window(rows: Sequence[RunRow], place: int, size: int) -> Sequence[RunRow]:
    """At most `size` rows that include the one at `place`."""
    # The selected row is in the middle, except near the ends of the list.
    first = max(0, min(place - size // 2, len(rows) - size))
    return rows[first : first + size]


def _columns(frame: Frame) -> tuple[Column[RunRow], ...]:
    long_ids = frame.height is None or frame.width >= 130
    columns: list[Column[RunRow]] = [
        Column("status", lambda row: row.status, style=status_style),
        Column(
            "name", lambda row: row.name, words=lambda name: short_line(name, max(8, min(28, frame.width - 70)))
        ),
        Column("run", lambda row: row.run_id, words=str if long_ids else _short_id),
    ]
    if frame.width >= WIDE:
        columns.append(
            Column("", lambda row: row.share, words=lambda share: _bar(share or 0.0, frame.signs), style=_green)
        )
    return (
        *columns,
        Column("done", lambda row: row.share, words=percent, justify="right"),
        Column("members", lambda row: f"{row.done:,}/{row.total:,}", justify="right"),
        Column("failed", lambda row: row.failed or None, words=number, style=lambda _: "red", justify="right"),
        Column("rate", lambda row: row.rate, words=_rate, style=lambda _: "cyan", justify="right"),
        Column("time", lambda row: row.seconds, words=_took, justify="right"),
    )


CSV_COLUMNS: tuple[Column[RunRow], ...] = (
    Column("run", lambda row: row.run_id),
    Column("name", lambda row: row.name),
    Column("status", lambda row: row.status),
    Column("submitted", lambda row: timestamp(row.submitted_at)),
    Column("seconds", lambda row: None if row.seconds is None else round(row.seconds, 3)),
    Column("total", lambda row: row.total),
    Column("done", lambda row: row.done),
    Column("failed", lambda row: row.failed),
    Column("share", lambda row: row.share),
    Column("rate", lambda row: None if row.rate is None else round(row.rate, 1)),
    Column("request", lambda row: row.request_id),
)


def _used(row: RunRow) -> str:
    return "" if row.view.costs is None else used(row.view.costs)


def _waits(row: RunRow) -> str:
    return "" if row.waits is None else short_line(row.waits, 40)


def _green(_: float | None) -> str:
    return "green"


def _bar(fraction: float, signs: Signs) -> str:
    filled = int(BAR * min(1.0, fraction))
    return signs.full * filled + signs.rest * (BAR - filled)


def _rate(rate: float | None) -> str:
    return "" if rate is None or rate < 0.05 else f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def _took(value: float | None) -> str:
    return "" if value is None else seconds(value)


def _short_id(run_id: str) -> str:
    return run_id if len(run_id) <= 13 else f"{run_id[:12]}…"


# --- one run --------------------------------------------------------------------------------------


def _run(row: RunRow, frame: Frame) -> list[RenderableType]:
    height = None if frame.height is None else frame.height - 5
    canvas = Canvas(frame.width, height, row.seconds, row.waits, frame.signs)
    request = _text(f"request {row.request_id}  session {row.session_id}", "dim")
    return [draw(progress_of_view(row.view), canvas), request]


def _foot(screen: Screen, *, shows_details: bool) -> Text:
    return _text(KEYS_TYPING if screen.typing else KEYS_INSIDE if shows_details else KEYS, "dim")


def _text(words: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(no_wrap=True, overflow="ellipsis").append(words, style=style)
