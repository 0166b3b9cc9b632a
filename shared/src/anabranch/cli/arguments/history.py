"""Arguments of `history`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli.arguments.options import Load, with_system
from anabranch.cli.arguments.running import run_and_exit
from anabranch.cli.exits import errors_as_exit

app = typer.Typer(help="The history of runs in a database: export and measurements.", no_args_is_help=True)


@app.command()
@with_system
def export(
    settings: Load,
    to: Annotated[Path, typer.Option(help="The file to write; - is standard output.")] = Path("-"),
    filter: Annotated[
        str | None, typer.Option(metavar="CONDITION", help="Only runs that meet it, as of `list --filter`.")
    ] = None,
) -> None:
    """Write the history as JSON Lines: one run a line, with its tasks, attempts, waits and decisions."""
    with errors_as_exit(False):
        from anabranch.cli.commands.history import export_history

        run_and_exit(export_history(settings(), to, condition=filter))


@app.command()
@with_system
def measurements(
    settings: Load,
    name: Annotated[str | None, typer.Option(help="Only runs of this name.")] = None,
    since: Annotated[str | None, typer.Option(help="Only runs submitted since this time.")] = None,
) -> None:
    """Print what attempts of tasks took and cost, and how many failed, as JSON: what a forecast starts from."""
    with errors_as_exit(False):
        from anabranch.cli.commands.history import show_measurements

        run_and_exit(show_measurements(settings(), name=name, since=since))
