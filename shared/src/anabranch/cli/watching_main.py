"""The arguments of `anabranch top` and `anabranch logs`, each command handed to the module that does the work."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from anabranch.cli.exits import errors_as_exit
from anabranch.cli.options import Json, Load, Output, RunId, with_system
from anabranch.cli.render.tables import form_of
from anabranch.cli.top.snapshot import Sort

app = typer.Typer()


@app.command()
@with_system
def top(
    settings: Load,
    sort: Annotated[Sort, typer.Option(help="The order of the runs.")] = Sort.NEWEST,
    filter_: Annotated[
        str, typer.Option("--filter", metavar="TEXT", help="Only runs with this in a name, id, status or label.")
    ] = "",
    open_only: Annotated[bool, typer.Option("--open", help="Only runs that have not ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the latest runs to look at.")] = 50,
    interval: Annotated[str, typer.Option(help="Time between two looks, such as 500ms.")] = "2s",
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """Watch runs, consumer groups, workers and dead letters; `q` quits. Without a terminal: one frame."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.top.command import TopOptions
        from anabranch.cli.top.command import top as do
        from anabranch.cli.top.screen import Screen

        screen = Screen(sort, filter_, open_only)
        options = TopOptions(form_of(output, json), once, _interval(interval), limit, screen)
        raise typer.Exit(_async(do(settings(), options)))


class Level(StrEnum):
    """How grave a line has to be."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@app.command()
@with_system
def logs(
    settings: Load,
    run: RunId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    group: Annotated[str | None, typer.Option(help="Only of this group.")] = None,
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    index: Annotated[int | None, typer.Option(min=0, help="Only of this member, from 0.")] = None,
    level: Annotated[Level, typer.Option(help="Only lines that are as grave as this, or more.")] = Level.INFO,
    output: Output = None,
    json: Json = False,
) -> None:
    """Print what the agents of a run logged."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.events import LogFilter, show_logs

        wanted = LogFilter(group, task, index, level)
        work = show_logs(settings(), run, wanted, follow=follow, form=form_of(output, json))
        raise typer.Exit(_async(work))


def _interval(text: str) -> float:
    from anabranch.core.durations import parse_duration
    from anabranch.core.errors import Misconfigured

    try:
        return max(0.1, parse_duration(text))
    except ValueError as error:
        raise Misconfigured("--interval", str(error)) from error


def _async(work: Any) -> int:
    from anabranch.runtime.process.loops import run as run_async

    code: int = run_async(work)
    return code
