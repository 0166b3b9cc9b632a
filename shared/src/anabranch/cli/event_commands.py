"""`events RUN`: a run's lifecycle events, as lines of JSON for programs or as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anabranch.cli.exits import COMPLETED, WRONG
from anabranch.cli.output import print_json, say, short
from anabranch.cli.systems import connected
from anabranch.cli.tables import Column, Form, fields, print_csv, status_style

if TYPE_CHECKING:
    from rich.console import Console

    from anabranch.runtime.settings import Settings

COMMON = ("type", "time", "seq", "run_id", "group", "task", "index", "attempt")
"""The fields that every event has; what else it says is `data` in a table and in CSV."""


async def show_events(settings: Settings, run: str, *, follow: bool, form: Form | None) -> int:
    """Print the events of a run in order, each as it comes; without a form one JSON a line. The one document of
    Form.JSON is printed when all are there."""
    printer = _Printer(form)
    async with connected(settings) as client:
        handle = await client.run(run)
        async for event in handle.events(until_now=not follow):
            printer.event(event)
    printer.close()
    if not printer.seen:
        say(f"No events of {run}: it is not known here, or they are older than the topic's retention")
        return WRONG
    return COMPLETED


class _Printer:
    """Prints each event in one form, and the one document of `--json` at the end."""

    def __init__(self, form: Form | None) -> None:
        self.seen = 0
        self._form = form
        self._found: list[Mapping[str, Any]] = []
        self._console: Console | None = None

    def event(self, event: Mapping[str, Any]) -> None:
        self.seen += 1
        if self._form is Form.JSON:
            self._found.append(event)
        elif self._form is Form.CSV:
            print_csv(COLUMNS, [event], head=self.seen == 1)
        elif self._form is Form.TABLE:
            self._line(event)
        else:
            print_json(event, indent=False)

    def close(self) -> None:
        if self._form is Form.JSON:
            print_json(self._found)

    def _line(self, event: Mapping[str, Any]) -> None:
        from anabranch.cli.output import wide_console

        self._console = self._console or wide_console()
        self._console.print(f"{event['time'][11:23]}  ", end="", style="dim", markup=False)
        kind = str(event["type"])
        self._console.print(f"{kind:16}", end="", style=status_style(kind.partition(".")[2]), markup=False)
        rest = data_of(event)
        self._console.print(f"  {place_of(event):32}  {short(rest) if rest else ''}".rstrip(), markup=False)


def place_of(event: Mapping[str, Any]) -> str:
    """`group/task[index] attempt 2`, as far as the event names them."""
    place = "/".join(str(event[part]) for part in ("group", "task") if event.get(part) is not None)
    index = "" if event.get("index") is None else f"[{event['index']}]"
    attempt = event.get("attempt") or 1
    return f"{place}{index}" + (f" attempt {attempt}" if attempt > 1 else "")


def data_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """What an event says beyond the common fields."""
    return {name: value for name, value in event.items() if name not in COMMON}


COLUMNS = (*fields(*COMMON), Column("data", lambda event: data_of(event) or None))
