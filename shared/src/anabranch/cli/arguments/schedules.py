"""Arguments of `schedules`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.arguments.options import Json
from anabranch.cli.exits import errors_as_exit

app = typer.Typer(help="Schedules: requests that are submitted by the clock.", no_args_is_help=True)

ScheduleFile = Annotated[
    str, typer.Argument(metavar="FILE", help="Schedule as JSON or YAML, - for standard input.")
]


@app.command("next")
def next_(
    count: Annotated[int, typer.Argument(metavar="N", min=1, max=10_000, help="How many times.")],
    file: ScheduleFile,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Times after this one; by default after now.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the next times of a schedule in a file. Needs no server."""
    with errors_as_exit(json):
        from anabranch.cli.commands.schedules import print_next

        raise typer.Exit(print_next(count, file, from_, json=json))
