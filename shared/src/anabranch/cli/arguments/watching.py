"""Arguments of `top` and `logs`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from anabranch.cli.arguments.options import Follow, Json, Load, Output, RunId, with_system
from anabranch.cli.arguments.running import run_and_exit
from anabranch.cli.durations import seconds_of
from anabranch.cli.exits import errors_as_exit
from anabranch.cli.render.tables import form_of
from anabranch.cli.top.snapshot import Sort

app = typer.Typer()
MIN_INTERVAL = 0.1


@app.command()
@with_system
def top(
    settings: Load,
    sort: Annotated[Sort, typer.Option(help="Order of the runs.")] = Sort.NEWEST,
    filter_: Annotated[
        str,
        typer.Option("--filter", metavar="TEXT", help="Only runs with this text in a name, id, status or label."),
    ] = "",
    open_only: Annotated[bool, typer.Option("--open", help="Only runs that have not ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Number of the latest runs to read.")] = 50,
    interval: Annotated[str, typer.Option(help="Refresh interval, such as 500ms.")] = "2s",
    once: Annotated[bool, typer.Option("--once", help="Print one frame and exit.")] = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """Watch runs, consumer groups, workers and dead letters; `q` quits. Without a terminal, prints one frame."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.top.command import TopOptions
        from anabranch.cli.top.command import top as watch
        from anabranch.cli.top.screen import Screen

        screen = Screen(sort, filter_, open_only)
        seconds = max(MIN_INTERVAL, seconds_of("--interval", interval))
        options = TopOptions(form_of(output, json), once, seconds, limit, screen)
        run_and_exit(watch(settings(), options))


class Level(StrEnum):
    """Minimum levels, as `--level` takes them."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@app.command()
@with_system
def logs(
    settings: Load,
    run: RunId,
    follow: Follow = False,
    group: Annotated[str | None, typer.Option(help="Only lines of this group.")] = None,
    task: Annotated[str | None, typer.Option(help="Only lines of this task.")] = None,
    index: Annotated[int | None, typer.Option(min=0, help="Only lines of this member, counted from 0.")] = None,
    level: Annotated[Level, typer.Option(help="Minimum level.")] = Level.INFO,
    output: Output = None,
    json: Json = False,
) -> None:
    """Print the log lines of a run's agents."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.events import LogFilter, show_logs

        wanted = LogFilter(group, task, index, level)
        run_and_exit(show_logs(settings(), run, wanted, follow=follow, form=form_of(output, json)))
