"""Arguments of `dlq`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from anabranch.cli.arguments.options import By, Json, Load, Output, Reason, with_system
from anabranch.cli.arguments.running import run_and_exit
from anabranch.cli.exits import errors_as_exit
from anabranch.cli.render.tables import form_of

app = typer.Typer(help="Dead letters: failed members and rejected requests.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Dead letters, as partition:offset.")]
Signature = Annotated[
    str | None, typer.Option(help="All open dead letters with this signature, the kind of failure.")
]
OfRun = Annotated[str | None, typer.Option("--run", metavar="RUN", help="All open dead letters of this run.")]


@app.command("list")
@with_system
def list_(
    settings: Load,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only dead letters of this run.")] = None,
    signature: Annotated[
        str | None, typer.Option(help="Only dead letters with this signature, the kind of failure.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Include dead letters already redriven or dismissed.")
    ] = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """List dead letters, grouped by kind of failure."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.dlq import list_dead_letters

        form = form_of(output, json)
        run_and_exit(list_dead_letters(settings(), run=run, signature=signature, every=every, form=form))


@app.command()
@with_system
def show(
    settings: Load,
    dead_letter: Annotated[str, typer.Argument(metavar="ID", help="Dead letter, as partition:offset.")],
    json: Json = False,
) -> None:
    """Show all details of a dead letter."""
    with errors_as_exit(json):
        from anabranch.cli.commands.dlq import show_dead_letter

        run_and_exit(show_dead_letter(settings(), dead_letter, json=json))


@app.command()
@with_system
def redrive(
    settings: Load,
    ids: Ids = None,
    signature: Signature = None,
    run: OfRun = None,
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Process dead letters again: held members get a new attempt, rejected requests are published again."""
    _decide("redrive", settings, (ids, signature, run), (by, reason), json)


@app.command()
@with_system
def dismiss(
    settings: Load,
    ids: Ids = None,
    signature: Signature = None,
    run: OfRun = None,
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Accept dead letters: held members count as failed, and the list no longer shows the dead letters."""
    _decide("dismiss", settings, (ids, signature, run), (by, reason), json)


def _decide(
    action: Any,
    settings: Load,
    selected: tuple[list[str] | None, str | None, str | None],
    said: tuple[str | None, str | None],
    json: bool,
) -> None:
    with errors_as_exit(json):
        from anabranch.cli.commands.dlq_decisions import decide_on
        from anabranch.cli.said import said_by
        from anabranch.dead_letters.decisions import DeadLetterSelection

        ids, signature, run = selected
        selection = DeadLetterSelection(tuple(ids or ()), signature, run)
        run_and_exit(decide_on(settings(), action, selection, said_by(*said), json=json))
