"""Lists in three forms: a table for people, one JSON document, or CSV for spreadsheets and `cut`.

A list says its columns once. The table takes a column's words, CSV its plain value; the JSON document is the
command's own, for it may hold more than the table.
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
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column: its name, its plain value, and how a table words that where not as it is.

    The words are text, never markup. `style` gives the style of a value, such as a status's colour.
    """

    name: str
    value: Callable[[Row], Any]
    words: Callable[[Any], str] | None = None
    style: Callable[[Any], str] | None = None
    justify: Literal["left", "right"] = "left"


def fields(*names: str) -> tuple[Column[Mapping[str, Any]], ...]:
    """Columns that are the fields of these names; what a row lacks is null."""
    return tuple(Column(name, operator.methodcaller("get", name)) for name in names)


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row]):
    """A list that can be printed in every form. `nothing` is said to people where there are no rows."""

    columns: Sequence[Column[Row]]
    rows: Sequence[Row]
    document: Any
    nothing: str


def form_of(output: Form | None, json: bool, default: Form = Form.TABLE) -> Form:
    """The form that `--output` and `--json` ask for.

    Raises:
        Misconfigured: they contradict each other.
    """
    if json and output not in (None, Form.JSON):
        raise Misconfigured("--output", f"{output} and --json contradict each other", "leave out one of the two")
    return Form.JSON if json else output or default


def show(listing: Listing[Row], form: Form) -> None:
    """Print a list on standard output; that there is nothing in it goes to standard error."""
    if form is Form.JSON:
        print_json(listing.document)
    elif form is Form.CSV:
        print_csv(listing.columns, listing.rows)
    elif listing.rows:
        wide_console().print(table_of(listing.columns, listing.rows))
    if not listing.rows and form is not Form.JSON and listing.nothing:
        say(listing.nothing)


def print_csv(columns: Sequence[Column[Row]], rows: Iterable[Row], *, head: bool = True) -> None:
    """CSV as in RFC 4180, but with plain line feeds; `head` first names the columns."""
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
    """A value as one cell: nothing for null, compact JSON for what is nested."""
    if value is None:
        return ""
    if isinstance(value, bool | dict | list | tuple):
        return orjson.dumps(value, default=str).decode()
    return value


def table_of(columns: Sequence[Column[Row]], rows: Iterable[Row], *, no_wrap: bool = False) -> Table:
    """The table for people, without a frame. With `no_wrap` each row is one line, cut where it has to be."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.name, justify=column.justify, no_wrap=no_wrap)
    for row in rows:
        cells = []
        for column in columns:
            value = column.value(row)
            words = visible(column.words(value) if column.words else str(plain(value)))  # measured as it is shown
            cells.append(Text(words, style=column.style(value) if column.style else ""))
        table.add_row(*cells)
    return table


# --- values that many lists have --------------------------------------------------------------------


def timestamp(at: float | None) -> str | None:
    """Seconds since the epoch as RFC 3339, for CSV."""
    return None if at is None else rfc3339(at)


def moment(time: str | None) -> str:
    """An RFC 3339 time as people read it, in UTC."""
    return "" if time is None else datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def number(value: float | None) -> str:
    """A count with separators; nothing for null."""
    return "" if value is None else f"{value:,}"


STYLES = {
    "completed": "green",
    "failed": "red",
    "rejected": "red",
    "timed_out": "red",
    "running": "cyan",
    "accepted": "cyan",
    "cancelled": "yellow",
    "skipped": "yellow",
    "paused": "yellow",
    "waiting": "dim",
}


def status_style(status: Any) -> str:
    """The colour of a status; what is not known has none."""
    return STYLES.get(str(status), "")
