"""Arguments of `schedules`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.arguments.options import By, Json, Load, Reason, with_system
from anabranch.cli.arguments.running import run_and_exit
from anabranch.cli.exits import errors_as_exit

app = typer.Typer(help="Schedules: requests that are submitted by the clock.", no_args_is_help=True)

ScheduleFile = Annotated[
    str, typer.Argument(metavar="FILE", help="Schedule as JSON or YAML, - for standard input.")
]
ScheduleId = Annotated[str, typer.Argument(metavar="ID", help="Id of the schedule.")]


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


@app.command()
@with_system
def put(settings: Load, file: ScheduleFile, by: By = None, json: Json = False) -> None:
    """Store a schedule, in place of one with the same id."""
    with errors_as_exit(json):
        from anabranch.cli.commands.schedules import put as put_schedule

        run_and_exit(put_schedule(settings(), file, by, json=json))


@app.command("list")
@with_system
def list_(settings: Load, json: Json = False) -> None:
    """List the schedules."""
    with errors_as_exit(json):
        from anabranch.cli.commands.schedules import list_schedules

        run_and_exit(list_schedules(settings(), json=json))


@app.command()
@with_system
def show(settings: Load, schedule: ScheduleId, json: Json = False) -> None:
    """Show a schedule: its next firings and its history."""
    with errors_as_exit(json):
        from anabranch.cli.commands.schedules import show as show_schedule

        run_and_exit(show_schedule(settings(), schedule, json=json))


@app.command()
@with_system
def pause(settings: Load, schedule: ScheduleId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """Pause a schedule: it does not fire until it is resumed."""
    with errors_as_exit(json):
        from anabranch.cli.commands.schedules import act

        run_and_exit(act(settings(), "pause", schedule, by, reason, json=json))


@app.command()
@with_system
def resume(settings: Load, schedule: ScheduleId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """Resume a schedule."""
    with errors_as_exit(json):
        from anabranch.cli.commands.schedules import act

        run_and_exit(act(settings(), "resume", schedule, by, reason, json=json))


@app.command()
@with_system
def trigger(
    settings: Load, schedule: ScheduleId, by: By = None, reason: Reason = None, json: Json = False
) -> None:
    """Fire a schedule now."""
    with errors_as_exit(json):
        from anabranch.cli.commands.schedules import act

        run_and_exit(act(settings(), "trigger", schedule, by, reason, json=json))


@app.command()
@with_system
def backfill(
    settings: Load,
    schedule: ScheduleId,
    from_: Annotated[str, typer.Option("--from", metavar="TIME", help="The first time.")],
    to: Annotated[str | None, typer.Option("--to", metavar="TIME", help="The last time; by default now.")] = None,
    at_once: Annotated[bool, typer.Option("--at-once", help="All runs at once, and not one by one.")] = False,
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Fire each time of a range that has no run yet."""
    with errors_as_exit(json):
        from anabranch.cli.commands.schedules import act

        fields = {"from": from_, "to": to, "overlap": "allow" if at_once else None}
        run_and_exit(act(settings(), "backfill", schedule, by, reason, json=json, **fields))


@app.command()
@with_system
def delete(settings: Load, schedule: ScheduleId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """Delete a schedule. Its runs go on."""
    with errors_as_exit(json):
        from anabranch.cli.commands.schedules import act

        run_and_exit(act(settings(), "delete", schedule, by, reason, json=json))
