"""Tables of an outcome: rows of cells, as plain text and as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from peers.measures import FANOUT, Column, Measure
from peers.outcomes import Figure, Outcome

Table = list[list[str]]


def tables(outcome: Outcome, measure: Measure) -> list[Table]:
    """The medians: for fan-outs one table with a column for each size, else one for each size with a column for
    each figure."""
    if measure is FANOUT:
        return [_by_size(outcome, measure)]
    return [_by_figure(outcome, measure, size) for size in outcome.sizes(measure)]


def spread_table(outcome: Outcome, measure: Measure) -> Table:
    """The lowest and the highest repetition of each judged figure, or of all if none is judged."""
    columns = [column for column in measure.columns if column.name in (measure.judged or (column.name,))]
    shown = [(size, column) for size in outcome.sizes(measure) for column in columns]
    heads = [f"{measure.size.format(size)}: {column.heading}".removeprefix(": ") for size, column in shown]
    rows = [
        [system, *(_spread(outcome.figure(system, measure, size), column) for size, column in shown)]
        for system in outcome.systems_of(measure)
    ]
    return [["", *heads], *rows]


def fanout_text(figure: Figure) -> str:
    """A fan-out as `2.31 s (8,658/s)`, or as the reason why it is missing."""
    seconds = figure.middle("seconds")
    text = cell(figure, FANOUT.columns[0])
    return text if seconds is None else f"{text} ({figure.size / seconds:,.0f}/s)"


def cell(figure: Figure, column: Column) -> str:
    """The median of a figure, or the reason why it is missing."""
    middle = figure.middle(column.name)
    return figure.missing if middle is None else column.text(middle)


def plain(rows: Table) -> str:
    """Format a table as plain text in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    return "\n".join(lines) + "\n"


def markdown(rows: Table) -> list[str]:
    """Format a table as lines of Markdown."""
    header, *body = rows
    return [_line(header), "|" + "---|" * len(header), *map(_line, body)]


def _by_size(outcome: Outcome, measure: Measure) -> Table:
    sizes = outcome.sizes(measure)
    header = ["", *(measure.size.format(size) for size in sizes)]
    rows = [
        [system, *(fanout_text(outcome.figure(system, measure, size)) for size in sizes)]
        for system in outcome.systems_of(measure)
    ]
    return [header, *rows]


def _by_figure(outcome: Outcome, measure: Measure, size: int) -> Table:
    header = [measure.size.format(size), *(column.heading for column in measure.columns)]
    rows = [
        [system, *(cell(outcome.figure(system, measure, size), column) for column in measure.columns)]
        for system in outcome.systems_of(measure)
    ]
    return [header, *rows]


def _spread(figure: Figure, column: Column) -> str:
    values = figure.values(column.name)
    if not values:
        return figure.missing
    return f"{min(values):,.{column.digits}f} to {column.text(max(values))}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
