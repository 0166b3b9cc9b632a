"""Prints lists in three forms: a table for people, one JSON document, or CSV.

A list declares its columns once. The table shows a column's formatted value, CSV its plain value. The JSON
document is separate, because it may have more than the table.
"""

from __future__ import annotations

import csv
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import orjson

from anabranch.cli.render.output import print_json, say, wide_console
from anabranch.core.errors import Misconfigured
from anabranch.core.visible import visible
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.runtime.process.streams import standard_output

if TYPE_CHECKING:
    from rich.table import Table

Row = TypeVar("Row")


class Form(StrEnum):
    """Output form of a list, as `--output` takes it."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column of a list.

    Attributes:
        value: returns the plain value of a row, for CSV.
        words: formats the value for the table, as text without markup; None: as in CSV.
        style: returns the style of a value in the table, such as the colour of a status.
    """

    name: str
    value: Callable[[Row], Any]
    words: Callable[[Any], str] | None = None
    style: Callable[[Any], str] | None = None
    justify: Literal["left", "right"] = "left"


def fields(*names: str) -> tuple[Column[Mapping[str, Any]], ...]:
    """Columns with the fields of these names; a missing field is null."""
    return tuple(Column(name, operator.methodcaller("get", name)) for name in names)


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row]):
    """A list that can be printed in every form. `nothing` is the message for people if there are no rows."""

    columns: Sequence[Column[Row]]
    rows: Sequence[Row]
    document: Any
    nothing: str


def form_of(output: Form | None, json: bool, default: Form = Form.TABLE) -> Form:
    """The form that `--output` and `--json` select.

    Raises:
        Misconfigured: the two options contradict each other.
    """
    if json and output not in (None, Form.JSON):
        raise Misconfigured("--output", f"{output} contradicts --json", "omit one of the two")
    return Form.JSON if json else output or default


def show(listing: Listing[Row], form: Form) -> None:
    """Print a list on standard output. For an empty list, print its message `nothing` on standard error."""
    if form is Form.JSON:
        print_json(listing.document)
    elif form is Form.CSV:
        print_csv(listing.columns, listing.rows)
    elif listing.rows:
        wide_console().print(table_of(listing.columns, listing.rows))
    if not listing.rows and form is not Form.JSON and listing.nothing:
        say(listing.nothing)


def print_csv(columns: Sequence[Column[Row]], rows: Iterable[Row], *, head: bool = True) -> None:
    """Print CSV as in RFC 4180, but with plain line feeds. With `head`, the first row has the column names."""
    writer = csv.writer(standard_output(), lineterminator="\n")
    if head:
        writer.writerow([column.name.replace(" ", "_") for column in columns])
    for row in rows:
        writer.writerow([_cell(column.value(row)) for column in columns])
    standard_output().flush()


def _cell(value: Any) -> Any:
    cell = plain(value)
    return visible(cell) if isinstance(cell, str) else cell


def plain(value: Any) -> Any:
    """A value as one cell: empty for null, compact JSON for booleans, objects and lists."""
    if value is None:
        return ""
    if isinstance(value, bool | dict | list | tuple):
        return orjson.dumps(value, default=str).decode()
    return value


def table_of(columns: Sequence[Column[Row]], rows: Iterable[Row], *, no_wrap: bool = False) -> Table:
    """The table for people, without a frame. With `no_wrap` each row is one line, truncated to the width."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.name, justify=column.justify, no_wrap=no_wrap)
    for row in rows:
        cells = []
        for column in columns:
            value = column.value(row)
            # Escaped here and not only on output, because rich measures the text to lay out the columns.
            words = visible(column.words(value) if column.words else str(plain(value)))
            cells.append(Text(words, style=column.style(value) if column.style else ""))
        table.add_row(*cells)
    return table


# --- values that many lists have --------------------------------------------------------------------


def timestamp(at: float | None) -> str | None:
    """Format seconds since the epoch as RFC 3339, for CSV."""
    return None if at is None else rfc3339(at)


def moment(time: str | None) -> str:
    """Format an RFC 3339 time for people, in UTC."""
    return "" if time is None else datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def number(value: float | None) -> str:
    """Format a number with thousands separators; empty for null."""
    return "" if value is None else f"{value:,}"


STYLES = {
    "completed": "green",
    "failed": "red",
    "rejected": "red",
    "timed_out": "red",
    "running": "cyan",
    "accepted": "cyan",
    "scheduled": "cyan",
    "queued": "cyan",
    "compensating": "yellow",
    "cancelled": "yellow",
    "skipped": "yellow",
    "paused": "yellow",
    "waiting": "dim",
}


def status_style(status: Any) -> str:
    """The colour of a status; empty for an unknown status."""
    return STYLES.get(str(status), "")
