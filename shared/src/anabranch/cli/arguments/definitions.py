"""Arguments of `definitions`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.arguments.options import Json, Load, with_system
from anabranch.cli.arguments.running import run_and_exit
from anabranch.cli.exits import errors_as_exit

app = typer.Typer(help="Definitions: requests that are started by name.", no_args_is_help=True)


@app.command()
@with_system
def push(
    settings: Load,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Definition as JSON or YAML, - for standard input.")],
    json: Json = False,
) -> None:
    """Store a version of a definition. A version never changes; without one, it gets the next number."""
    with errors_as_exit(json):
        from anabranch.cli.commands.definitions import push as push_definition

        run_and_exit(push_definition(settings(), file, json=json))


@app.command("list")
@with_system
def list_(settings: Load, json: Json = False) -> None:
    """List the versions of all definitions."""
    with errors_as_exit(json):
        from anabranch.cli.commands.definitions import list_definitions

        run_and_exit(list_definitions(settings(), json=json))


@app.command()
@with_system
def show(
    settings: Load,
    reference: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="Without a version, the last one.")],
    json: Json = False,
) -> None:
    """Show a definition: its input schema and its request."""
    with errors_as_exit(json):
        from anabranch.cli.commands.definitions import show as show_definition

        run_and_exit(show_definition(settings(), reference, json=json))
