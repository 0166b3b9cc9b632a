"""Arguments of the commands about one run, and of `list`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from anabranch.cli.arguments.options import By, Follow, Json, Load, Output, Reason, RunId, with_system
from anabranch.cli.arguments.running import run_and_exit
from anabranch.cli.durations import seconds_of
from anabranch.cli.exits import errors_as_exit
from anabranch.cli.render.tables import Form, form_of

app = typer.Typer()


class RunStatus(StrEnum):
    """Statuses of runs, as `--status` takes them."""

    ACCEPTED = "accepted"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


# --- queries --------------------------------------------------------------------------------------


@app.command("list")
@with_system
def list_(
    settings: Load,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Number of the latest runs to search.")] = 50,
    status: Annotated[RunStatus | None, typer.Option(help="Only runs with this status.")] = None,
    filter: Annotated[
        str | None,
        typer.Option(metavar="CONDITION", help="Only runs that meet it: 'labels.team == \"a\" && duration > 60'."),
    ] = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """List runs, the latest first."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.list_status_result import list_runs

        form = form_of(output, json)
        run_and_exit(list_runs(settings(), limit=limit, status=status, condition=filter, form=form))


@app.command()
@with_system
def status(settings: Load, run: RunId, output: Output = None, json: Json = False) -> None:
    """Show the progress of a run."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.list_status_result import show_status

        run_and_exit(show_status(settings(), run, form=form_of(output, json)))


@app.command()
@with_system
def result(
    settings: Load,
    run: RunId,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Print only this result.")] = None,
    wait: Annotated[
        str | None, typer.Option(help="Maximum time to wait for the end of the run, such as 5m.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the outcome of a run, or print the value of one result key."""
    with errors_as_exit(json):
        from anabranch.cli.commands.list_status_result import show_result

        timeout = None if wait is None else seconds_of("--wait", wait)
        run_and_exit(show_result(settings(), run, key, timeout=timeout, json=json))


@app.command()
@with_system
def events(settings: Load, run: RunId, follow: Follow = False, output: Output = None, json: Json = False) -> None:
    """Print the lifecycle events of a run, by default one JSON document per line."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.events import show_events

        form = Form.JSON if json else output
        run_and_exit(show_events(settings(), run, follow=follow, form=form))


@app.command()
@with_system
def context(
    settings: Load,
    run: RunId,
    at: Annotated[int | None, typer.Option(help="Show the context as of this version.")] = None,
    diff: Annotated[
        tuple[int, int] | None, typer.Option(metavar="A B", help="Show the differences between versions A and B.")
    ] = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Show the versions of the context that a run's session shares: who wrote what, and when."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.context import show_context

        run_and_exit(show_context(settings(), run, at=at, between=diff, form=form_of(output, json)))


@app.command()
@with_system
def why(
    settings: Load,
    run: RunId,
    heal: Annotated[bool, typer.Option("--heal", help="Re-send pending work; safe to repeat.")] = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """Explain what a run is blocked on, and what to do. Needs Kafka and Redis, but no running service."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.why import why as explain

        run_and_exit(explain(settings(), run, heal=heal, form=form_of(output, json)))


# --- control --------------------------------------------------------------------------------------


@app.command()
@with_system
def cancel(settings: Load, run: RunId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """Cancel a run."""
    _control("cancel", settings, run, by, reason, json)


@app.command()
@with_system
def terminate(settings: Load, run: RunId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """Cancel a run without what it does after a cancellation."""
    _control("terminate", settings, run, by, reason, json)


@app.command()
@with_system
def pause(settings: Load, run: RunId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """Pause a run: running members end, no further ones start."""
    _control("pause", settings, run, by, reason, json)


@app.command()
@with_system
def resume(settings: Load, run: RunId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """Resume a paused run."""
    _control("resume", settings, run, by, reason, json)


@app.command()
@with_system
def signal(
    settings: Load,
    run: RunId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name that a task waits for.")],
    value: Annotated[str, typer.Argument(metavar="[JSON]", help="The value of the task.")] = "null",
    signal_id: Annotated[
        str | None, typer.Option("--id", help="Id of the signal. A repeated id counts once.")
    ] = None,
    json: Json = False,
) -> None:
    """Send a signal to a run: it ends one wait for its name, now or later."""
    with errors_as_exit(json):
        from anabranch.cli.commands.waits import send_signal

        run_and_exit(send_signal(settings(), run, name, value, signal_id=signal_id, json=json))


@app.command()
@with_system
def publish(
    settings: Load,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the event that tasks wait for.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="The correlation key, such as the id of an order.")],
    value: Annotated[str, typer.Argument(metavar="[JSON]", help="The value of the tasks.")] = "null",
    event_id: Annotated[
        str | None, typer.Option("--id", help="Id of the event. A repeated id is the same event for seven days.")
    ] = None,
    ttl: Annotated[
        str | None, typer.Option(help="How long it is kept for tasks that wait later, such as 15m; default 24h.")
    ] = None,
    deliver: Annotated[
        str | None, typer.Option(help="`all` runs that wait get it, the default, or `one`: the longest waiting.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="The project whose tasks get it.")] = None,
    json: Json = False,
) -> None:
    """Publish an event: each run with a task that waits for its name and key gets it, now or later."""
    with errors_as_exit(json):
        from anabranch.cli.commands.waits import publish as publish_event

        event = {"name": name, "key": key, "id": event_id, "ttl": ttl, "deliver": deliver, "project": project}
        run_and_exit(publish_event(settings(), event, value, json=json))


_Task = Annotated[str, typer.Argument(metavar="TASK", help="The task that waits, as TASK or GROUP/TASK.")]
_Index = Annotated[int | None, typer.Option(min=0, help="Member of an expanded task, from 0.")]
_Data = Annotated[str | None, typer.Option(metavar="JSON", help="What is filled into the form of the approval.")]
_Comment = Annotated[str, typer.Option(help="Why.")]
_By = Annotated[str | None, typer.Option(help="Who decides; by default the user of this machine.")]


@app.command()
@with_system
def approve(
    settings: Load,
    run: RunId,
    task: _Task,
    index: _Index = None,
    data: _Data = None,
    comment: _Comment = "",
    by: _By = None,
    decision: Annotated[str, typer.Option(help="Another option of the approval.")] = "approve",
    json: Json = False,
) -> None:
    """Approve what a task of a run asks for."""
    _decide(settings, run, task, decision, index=index, data=data, comment=comment, by=by, json=json)


@app.command()
@with_system
def reject(
    settings: Load,
    run: RunId,
    task: _Task,
    index: _Index = None,
    data: _Data = None,
    comment: _Comment = "",
    by: _By = None,
    json: Json = False,
) -> None:
    """Reject what a task of a run asks for."""
    _decide(settings, run, task, "reject", index=index, data=data, comment=comment, by=by, json=json)


@app.command()
@with_system
def retry(
    settings: Load,
    run: RunId,
    failed: Annotated[bool, typer.Option("--failed", help="Run again the tasks that have no result.")] = False,
    request_id: Annotated[
        str | None, typer.Option(help="Request id of the new run. A repeated id does not start a second run.")
    ] = None,
    by: By = None,
    reason: Reason = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start the run and do not wait.")] = False,
    json: Json = False,
) -> None:
    """Start a new run that imports the results of a run that did not complete."""
    with errors_as_exit(json):
        from anabranch.cli.commands.retry import retry as start_retry
        from anabranch.cli.said import said_by

        said = said_by(by, reason)
        work = start_retry(
            settings(), run, failed=failed, request_id=request_id, said=said, detach=detach, json=json
        )
        run_and_exit(work)


@app.command()
@with_system
def fork(
    settings: Load,
    run: RunId,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="TASK", help="Run this task again, as task or group/task; repeatable."),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the context: JSON, or else text."),
    ] = None,
    request: Annotated[
        str | None, typer.Option(metavar="FILE", help="A request in place of that of the run.")
    ] = None,
    request_id: Annotated[
        str | None, typer.Option(help="Request id of the new run. A repeated id does not start a second run.")
    ] = None,
    by: By = None,
    reason: Reason = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start the run and do not wait.")] = False,
    json: Json = False,
) -> None:
    """Start a run that takes over what an ended run has, except what depends on a change."""
    with errors_as_exit(json):
        from anabranch.cli.commands.retry import ForkOptions
        from anabranch.cli.commands.retry import fork as start_fork
        from anabranch.cli.said import said_by

        said = said_by(by, reason)
        options = ForkOptions(tuple(tasks or ()), tuple(values or ()), request, request_id, detach, json, said)
        run_and_exit(start_fork(settings(), run, options))


def _decide(settings: Load, run: str, task: str, decision: str, *, json: bool, **more: Any) -> None:
    with errors_as_exit(json):
        from anabranch.cli.commands.waits import decide

        run_and_exit(decide(settings(), run, task, decision, json=json, **more))


def _control(action: Any, settings: Load, run: str, by: str | None, reason: str | None, json: bool) -> None:
    with errors_as_exit(json):
        from anabranch.cli.commands.control import control
        from anabranch.cli.said import said_by

        run_and_exit(control(settings(), action, run, said_by(by, reason), json=json))
