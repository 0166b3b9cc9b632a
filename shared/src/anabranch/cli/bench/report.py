"""Prints a measurement: a table with a sparkline of each distribution, or one JSON document.

If standard output is not a terminal, the table is plain ASCII text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anabranch.cli.bench.distribution import BLOCKS, PLAIN, Distribution, labelled_sparkline, milliseconds
from anabranch.cli.bench.shapes import Document
from anabranch.cli.render.output import print_json, print_text

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Measurement:
    """Figures of one measurement.

    Attributes:
        document: the document of `--json`.
        rows: rows of the table: name, figure, and a remark, which may be empty.
        spreads: named distributions; the table shows the percentiles and a sparkline of each.
    """

    title: str
    document: Document
    rows: Sequence[tuple[str, str, str]]
    spreads: Sequence[tuple[str, Distribution]] = field(default=())


def show(report: Measurement, *, json: bool) -> None:
    """Print one JSON document or the table on standard output."""
    if json:
        print_json(report.document)
        return
    from anabranch.cli.render.output import wide_console

    console = wide_console()
    if console.is_terminal and "utf" in (console.encoding or "").lower():
        _show_table(report, console)
    else:
        print_text("\n".join(plain_lines(report)))


def plain_lines(report: Measurement) -> list[str]:
    """The table as plain text: ASCII, unless a remark has other characters."""
    cells = [*report.rows, *_spread_rows(report, PLAIN)]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(2)]
    lines = [f"{what:<{widths[0]}}  {figure:>{widths[1]}}  {remark}".rstrip() for what, figure, remark in cells]
    return [report.title, *(f"  {line}" for line in lines)]


def _spread_rows(report: Measurement, marks: str) -> list[tuple[str, str, str]]:
    rows = []
    for name, spread in report.spreads:
        rows.append((f"{name}, median", milliseconds(spread.median), labelled_sparkline(spread, marks)))
        rows.append((f"{name}, p99", milliseconds(spread.at(0.99)), f"of {len(spread.values):,}"))
        rows.append((f"{name}, longest", milliseconds(spread.maximum), ""))
    return rows


def _show_table(report: Measurement, console: Console) -> None:
    from rich import box
    from rich.table import Table

    table = Table(title=report.title, title_justify="left", box=box.SIMPLE_HEAD, show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right", style="bold")
    table.add_column(style="cyan")
    for row in (*report.rows, *_spread_rows(report, BLOCKS)):
        table.add_row(*row)
    console.print(table)
