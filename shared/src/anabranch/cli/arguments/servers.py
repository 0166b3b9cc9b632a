"""Arguments of `topics create` and `rebuild`: commands on Kafka and Redis."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.arguments.options import Json, Load, Output, with_settings
from anabranch.cli.arguments.running import run_and_exit
from anabranch.cli.exits import errors_as_exit
from anabranch.cli.render.tables import form_of

app = typer.Typer()
topics = typer.Typer(help="Topics on Kafka.", no_args_is_help=True)
app.add_typer(topics, name="topics")


@topics.command("create")
@with_settings
def topics_create(
    settings: Load,
    pool: Annotated[
        list[str] | None,
        typer.Option(help="Create the topics of all levels of priority of this pool too. Repeatable."),
    ] = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Create missing topics."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.control import create_topics

        run_and_exit(create_topics(settings(), pool or (), form=form_of(output, json)))


@app.command()
@with_settings
def rebuild(
    settings: Load,
    session: Annotated[str | None, typer.Option(help="Rebuild all runs of this session.")] = None,
    run_: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Rebuild this run: a run id or a request id.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Rebuild every run on the log.")] = False,
    json: Json = False,
) -> None:
    """Restore missing data in Redis from the log in Kafka."""
    with errors_as_exit(json):
        from anabranch.cli.commands.rebuild import rebuild_command

        run_and_exit(rebuild_command(settings(), session=session, run=run_, everything=everything, json=json))
