"""Arguments of `limits` and `breaker`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from anabranch.cli.arguments.options import Json, Load, Output, with_system
from anabranch.cli.arguments.running import run_and_exit
from anabranch.cli.exits import errors_as_exit
from anabranch.cli.render.tables import form_of

app = typer.Typer()


class Action(StrEnum):
    """What becomes of a breaker."""

    OPEN = "open"
    CLOSE = "close"


@app.command()
@with_system
def limits(settings: Load, output: Output = None, json: Json = False) -> None:
    """List the limits that runs share: concurrency keys, rates and breakers, who holds them, and how many wait."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.limits import show_limits

        run_and_exit(show_limits(settings(), form=form_of(output, json)))


@app.command()
@with_system
def breaker(
    settings: Load,
    action: Annotated[Action, typer.Argument(help="`open`: its members wait until it is closed; or `close`.")],
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The name of the agent.")],
    by: Annotated[str | None, typer.Option(help="Who does it.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why.")] = None,
    json: Json = False,
) -> None:
    """Open or close the breaker of an agent by hand."""
    with errors_as_exit(json):
        from anabranch.cli.commands.limits import set_breaker
        from anabranch.cli.said import Said

        run_and_exit(set_breaker(settings(), action.value, agent, Said(by, reason), json=json))
