"""Arguments of `executions`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.arguments.options import By, Json, Load, Output, Reason, with_system
from anabranch.cli.arguments.running import run_and_exit
from anabranch.cli.exits import errors_as_exit
from anabranch.cli.render.tables import form_of

app = typer.Typer(
    help="Executions of tasks as workflows: with dependencies, retries and times, kept in a database.",
    no_args_is_help=True,
)

ExecutionId = Annotated[str, typer.Argument(metavar="EXECUTION", help="Id of the execution.")]


@app.command()
@with_system
def schedule(
    settings: Load,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="`task_id`, `task_ids` or `task_graph`, with what is to be done, as JSON or YAML; - for standard "
            "input.",
        ),
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for their ends, and print how they ended.")] = False,
    json: Json = False,
) -> None:
    """Schedule an execution of a task, one of each of several, or those of a graph, all or none."""
    with errors_as_exit(json):
        from anabranch.cli.commands import executions

        run_and_exit(executions.schedule(settings(), file, wait=wait, json=json))


@app.command("list")
@with_system
def list_(
    settings: Load,
    status: Annotated[str | None, typer.Option(help="Only executions with this status.")] = None,
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Only executions of this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 100,
    offset: Annotated[int, typer.Option(min=0, help="How many of the newest to leave out.")] = 0,
    output: Output = None,
    json: Json = False,
) -> None:
    """List executions, the newest first."""
    with errors_as_exit(json):
        from anabranch.cli.commands import executions

        wanted = {"status": status, "task_id": task, "limit": limit, "offset": offset}
        run_and_exit(executions.list_executions(settings(), wanted, form=form_of(output, json)))


@app.command()
@with_system
def show(settings: Load, execution: ExecutionId, json: Json = False) -> None:
    """Show an execution."""
    with errors_as_exit(json):
        from anabranch.cli.commands import executions

        run_and_exit(executions.show_execution(settings(), execution, json=json))


@app.command()
@with_system
def cancel(
    settings: Load, execution: ExecutionId, by: By = None, reason: Reason = None, json: Json = False
) -> None:
    """Cancel an execution, and those that depend on it."""
    with errors_as_exit(json):
        from anabranch.cli.commands import executions

        run_and_exit(executions.cancel(settings(), execution, by, reason, json=json))


@app.command()
@with_system
def stats(settings: Load, json: Json = False) -> None:
    """Count executions by status."""
    with errors_as_exit(json):
        from anabranch.cli.commands import executions

        run_and_exit(executions.stats(settings(), json=json))
