"""`events RUN` and `logs RUN`: print a run's lifecycle events or its agents' log lines. Read-only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anabranch.cli.backends.selection import open_installation
from anabranch.cli.exits import COMPLETED, WRONG
from anabranch.cli.render.output import continued, is_read, print_json, say, short, wide_console
from anabranch.cli.render.tables import Column, Form, fields, print_csv, status_style

if TYPE_CHECKING:
    from rich.text import Text

    from anabranch.runtime.process.settings import Settings

Event = Mapping[str, Any]

COMMON = ("type", "time", "seq", "run_id", "group", "task", "index", "attempt")
"""Fields of every event. A table and CSV have the other fields in one column, `data`."""

LEVELS = ("debug", "info", "warning", "error", "critical")
_LEVEL_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red"}


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Selects log lines of a run's agents. None: any."""

    group: str | None = None
    task: str | None = None
    index: int | None = None
    level: str = "info"

    def wants(self, event: Event) -> bool:
        if event["type"] != "task.log" or _rank(event.get("level")) < _rank(self.level):
            return False
        wanted = {"group": self.group, "task": self.task, "index": self.index}
        return all(value is None or event.get(name) == value for name, value in wanted.items())


def _rank(level: Any) -> int:
    """Rank of a level. An unknown level ranks highest, so that no filter hides it."""
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


async def show_events(settings: Settings, run: str, *, follow: bool, form: Form | None) -> int:
    """Print the events of a run in order, each as it arrives. Without a form, print one JSON document per line;
    with Form.JSON, print one array at the end."""
    printer = _Printer(form, EVENT_COLUMNS, event_line)
    return await _print(settings, run, printer, follow=follow, wants=lambda _: True, nothing="")


async def show_logs(settings: Settings, run: str, wanted: LogFilter, *, follow: bool, form: Form) -> int:
    """Print the log lines of a run's agents, each as it arrives."""
    printer = _Printer(form, LOG_COLUMNS, log_line)
    nothing = "No log line matches. Agents log with task.log; only INFO and higher levels are recorded."
    return await _print(settings, run, printer, follow=follow, wants=wanted.wants, nothing=nothing)


async def _print(
    settings: Settings,
    run: str,
    printer: _Printer,
    *,
    follow: bool,
    wants: Callable[[Event], bool],
    nothing: str,
) -> int:
    known = False
    async with open_installation(settings) as system, aclosing(system.events(run, follow=follow)) as events:
        async for event in events:
            known = True
            if wants(event):
                printer.event(event)
                # Checked after each line: `anabranch events RUN --follow | head` has to end.
                if not is_read():
                    return COMPLETED
    printer.close()
    if not known:
        say(f"There are no events of {run}: there is no such run, or its events are past the topic's retention")
        return WRONG
    if not printer.seen and nothing:
        say(nothing)
    return COMPLETED


class _Printer:
    """Prints each event in one form; with Form.JSON, collects them and prints one array at the end."""

    def __init__(self, form: Form | None, columns: Sequence[Column[Event]], line: Callable[[Event], Text]) -> None:
        self.seen = 0
        self._form = form
        self._columns = columns
        self._line = line
        self._found: list[Event] = []
        self._console = wide_console() if form is Form.TABLE else None

    def event(self, event: Event) -> None:
        self.seen += 1
        if self._console is not None:
            self._console.print(self._line(event))
        elif self._form is Form.JSON:
            self._found.append(event)
        elif self._form is Form.CSV:
            print_csv(self._columns, [event], head=self.seen == 1)
        else:
            print_json(event, indent=False)

    def close(self) -> None:
        if self._form is Form.JSON:
            print_json(self._found)
        elif self._form is Form.CSV and not self.seen:
            print_csv(self._columns, [])


def event_line(event: Event) -> Text:
    """Format an event as one line."""
    kind = str(event["type"])
    line = _moment(event).append(f"{kind:16}", style=status_style(kind.partition(".")[2]))
    rest = data_of(event)
    line.append(f"  {location_of(event):32}  {short(rest) if rest else ''}")
    line.rstrip()
    return line


def log_line(event: Event) -> Text:
    """Format a log line of an agent: time, level, member, message, and its fields as `name=value`."""
    level = str(event.get("level") or "info")
    line = _moment(event).append(f"{level.upper():8}", style=_LEVEL_STYLES.get(level, "green"))
    line.append(f"  {location_of(event)}  ", style="cyan").append(continued(str(event.get("message") or "")))
    for name, value in (event.get("fields") or {}).items():
        line.append(f" {name}=", style="dim").append(continued(value) if isinstance(value, str) else short(value))
    return line


def _moment(event: Event) -> Text:
    from rich.text import Text

    return Text().append(f"{event['time'][11:23]}  ", style="dim")


def location_of(event: Event) -> str:
    """The place of an event as `group/task[index] attempt 2`, without the parts that the event does not have."""
    place = "/".join(str(event[part]) for part in ("group", "task") if event.get(part) is not None)
    index = "" if event.get("index") is None else f"[{event['index']}]"
    attempt = event.get("attempt") or 1
    return f"{place}{index}" + (f" attempt {attempt}" if attempt > 1 else "")


def data_of(event: Event) -> dict[str, Any]:
    """The fields of an event without the common ones."""
    return {name: value for name, value in event.items() if name not in COMMON}


EVENT_COLUMNS = (*fields(*COMMON), Column("data", lambda event: data_of(event) or None))
LOG_COLUMNS = fields("time", "level", "group", "task", "index", "attempt", "message", "fields")
