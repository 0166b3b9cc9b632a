"""Arguments of `agents` and `workers`."""

from __future__ import annotations

import typer

from anabranch.cli.arguments.options import Json, Load, Output, with_system
from anabranch.cli.arguments.running import run_and_exit
from anabranch.cli.exits import errors_as_exit
from anabranch.cli.render.tables import form_of

app = typer.Typer()


@app.command()
@with_system
def agents(settings: Load, output: Output = None, json: Json = False) -> None:
    """List the agents of the live workers: capabilities, version, and how many workers have each."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.registry import show_agents

        run_and_exit(show_agents(settings(), form=form_of(output, json)))


@app.command()
@with_system
def workers(settings: Load, output: Output = None, json: Json = False) -> None:
    """List the live workers: host, pool, slots, load and agents."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.registry import show_workers

        run_and_exit(show_workers(settings(), form=form_of(output, json)))
