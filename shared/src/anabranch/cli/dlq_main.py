"""The arguments of `anabranch dlq`, each command handed to the module that does the work."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from anabranch.cli.exits import errors_as_exit
from anabranch.cli.options import Json, Load, Output, with_system
from anabranch.cli.render.tables import form_of

app = typer.Typer(help="Dead letters: what could not be handled, and what to do about it.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Letters, as partition:offset.")]
Signature = Annotated[str | None, typer.Option(help="All open letters of this kind of failure.")]
OfRun = Annotated[str | None, typer.Option("--run", metavar="RUN", help="All open letters of a run.")]


@app.command("list")
@with_system
def list_(
    settings: Load,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only those of a run.")] = None,
    signature: Annotated[str | None, typer.Option(help="Only those of this kind of failure.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Include dead letters already redriven or dismissed.")
    ] = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """List dead letters, grouped by what went wrong."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.dlq import list_letters

        form = form_of(output, json)
        work = list_letters(settings(), run=run, signature=signature, every=every, form=form)
        raise typer.Exit(_async(work))


@app.command()
@with_system
def show(
    settings: Load,
    letter: Annotated[str, typer.Argument(metavar="ID", help="A letter, as partition:offset.")],
    json: Json = False,
) -> None:
    """Show everything of one letter."""
    with errors_as_exit(json):
        from anabranch.cli.commands.dlq import show_letter

        raise typer.Exit(_async(show_letter(settings(), letter, json=json)))


@app.command()
@with_system
def redrive(
    settings: Load, ids: Ids = None, signature: Signature = None, run: OfRun = None, json: Json = False
) -> None:
    """Let held members run again, and send refused requests once more as they came."""
    _decide("redrive", settings, ids, signature, run, json)


@app.command()
@with_system
def dismiss(
    settings: Load, ids: Ids = None, signature: Signature = None, run: OfRun = None, json: Json = False
) -> None:
    """Let held members count as failed, and hide letters from the list."""
    _decide("dismiss", settings, ids, signature, run, json)


def _decide(
    action: Any, settings: Load, ids: list[str] | None, signature: str | None, run: str | None, json: bool
) -> None:
    with errors_as_exit(json):
        from anabranch.cli.commands.dlq_decisions import decide_on
        from anabranch.dead_letters.decisions import DeadLetterSelection

        choice = DeadLetterSelection(tuple(ids or ()), signature, run)
        raise typer.Exit(_async(decide_on(settings(), action, choice, json=json)))


def _async(work: Any) -> int:
    from anabranch.runtime.process.loops import run as run_async

    code: int = run_async(work)
    return code
