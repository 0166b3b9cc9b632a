"""The command `anabranch`: its arguments, each handed to the module that does the work.

Those modules are imported when a command runs, so that `--help` and `plan` are quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from anabranch.cli import bench_main, dlq_main, keys_main, watching_main
from anabranch.cli.exits import WRONG, errors_as_exit
from anabranch.cli.options import (
    Embedded,
    Json,
    Load,
    Output,
    RequestFile,
    RunId,
    Strict,
    with_settings,
    with_system,
)
from anabranch.cli.render.output import print_text, say
from anabranch.cli.render.tables import Form, form_of
from anabranch.runtime.process.streams import lasting_streams

app = typer.Typer(
    name="anabranch",
    help="Fan tasks out over Kafka and join them again.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
topics = typer.Typer(help="The topics on Kafka.", no_args_is_help=True)
app.add_typer(watching_main.app)
app.add_typer(topics, name="topics")
app.add_typer(bench_main.app, name="bench")
app.add_typer(dlq_main.app, name="dlq")
app.add_typer(keys_main.app, name="keys")


class RunStatus(StrEnum):
    """What a run may be."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


HIGHEST_PORT = 65_535
Concurrency = Annotated[int | None, typer.Option(help="Members that run at once in this process.")]
HealthPort = Annotated[
    int | None, typer.Option(help="Serve health probes on this port; 0 for any.", min=0, max=HIGHEST_PORT)
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code. With the process's own arguments, end the process afterwards."""
    if arguments is not None:
        return _called(list(arguments))
    code = _called(None)
    if "anabranch.runtime.process.loops" in sys.modules:  # threads of agents exist only if a loop ran
        from anabranch.runtime.process.loops import end_process_with

        end_process_with(code)
    return code


def _called(arguments: list[str] | None) -> int:
    """Run the command and return its exit code; unwritable standard streams do not change the code."""
    with lasting_streams():
        try:
            app(args=arguments, prog_name="anabranch")
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        return 0


def _version(wanted: bool) -> None:
    if wanted:
        from anabranch import __version__

        print_text(f"anabranch {__version__}")
        raise typer.Exit


@app.callback()
def _anabranch(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Fan tasks out over Kafka and join them again."""


# --- trying it out --------------------------------------------------------------------------------


@app.command()
@with_settings
def demo(settings: Load) -> None:
    """Show the whole system in this process on a real job."""
    with errors_as_exit(json=False):
        from anabranch.cli.commands.demo import show

        raise typer.Exit(_async(show(settings())))


@app.command()
@with_settings
def dev(
    settings: Load,
    concurrency: Concurrency = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port of the dashboard and API; 0 for any free one. Default: 8321, if free.",
            min=0,
            max=HIGHEST_PORT,
        ),
    ] = None,
) -> None:
    """Keep the whole system running in this process, for local work."""
    with errors_as_exit(json=False):
        from anabranch.cli.commands.dev import develop

        raise typer.Exit(_async(develop(settings(concurrency=concurrency, gateway_port=port))))


# --- services -------------------------------------------------------------------------------------


@app.command()
@with_settings
def agency(settings: Load, concurrency: Concurrency = None, health_port: HealthPort = None) -> None:
    """Run the service that admits requests and joins runs."""
    _serve("agency", settings, concurrency, health_port)


@app.command()
@with_settings
def taskgroup(settings: Load, concurrency: Concurrency = None, health_port: HealthPort = None) -> None:
    """Run the service that coordinates groups and runs agents."""
    _serve("taskgroup", settings, concurrency, health_port)


@app.command("worker")
@with_settings
def worker(settings: Load, concurrency: Concurrency = None, health_port: HealthPort = None) -> None:
    """The same as taskgroup."""
    _serve("taskgroup", settings, concurrency, health_port)


@app.command()
@with_settings
def eventmanager(settings: Load, concurrency: Concurrency = None, health_port: HealthPort = None) -> None:
    """Run the service that keeps views, forwards events and cleans up."""
    _serve("eventmanager", settings, concurrency, health_port)


@app.command()
@with_settings
def gateway(
    settings: Load,
    host: Annotated[str | None, typer.Option(help="To listen on; 127.0.0.1 unless set.")] = None,
    port: Annotated[int | None, typer.Option(help="To listen on; 0 for any.", min=0, max=HIGHEST_PORT)] = None,
    health_port: HealthPort = None,
) -> None:
    """Serve the HTTP API and the dashboard."""
    with errors_as_exit(json=False):
        from anabranch.compose import serve

        own = settings(gateway_host=host, gateway_port=port, health_port=health_port)
        raise typer.Exit(serve("gateway", own))


# --- requests -------------------------------------------------------------------------------------


@app.command()
@with_system
def run(
    settings: Load,
    file: RequestFile,
    embedded: Embedded = False,
    detach: Annotated[bool, typer.Option("--detach", help="Submit only; do not wait.")] = False,
    timeout: Annotated[str | None, typer.Option(help="Of the run, such as 90s or 5m.")] = None,
    events_file: Annotated[Path | None, typer.Option(help="Write lifecycle events, one JSON a line.")] = None,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Submit a request and wait for its end."""
    with errors_as_exit(json):
        from anabranch.cli.commands.run import RunOptions
        from anabranch.cli.commands.run import run as do

        raise typer.Exit(do(RunOptions(file, embedded, detach, timeout, json, events_file, strict), settings()))


@app.command()
@with_settings
def plan(
    settings: Load,
    file: RequestFile,
    expand: Annotated[bool, typer.Option("--expand", help="List every member with its rendered inputs.")] = False,
    strict: Strict = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """Show what a request would run; needs no server."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.plan import plan as do

        raise typer.Exit(do(file, settings(), form=form_of(output, json), expand=expand, strict=strict))


# --- runs -----------------------------------------------------------------------------------------


@app.command("list")
@with_system
def list_(
    settings: Load,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the latest to look at.")] = 50,
    status: Annotated[RunStatus | None, typer.Option(help="Only runs of this status.")] = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """List recent runs."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.inspect import list_runs

        form = form_of(output, json)
        raise typer.Exit(_async(list_runs(settings(), limit=limit, status=status, form=form)))


@app.command()
@with_system
def status(settings: Load, run: RunId, output: Output = None, json: Json = False) -> None:
    """Show how far a run is."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.inspect import show_status

        raise typer.Exit(_async(show_status(settings(), run, form=form_of(output, json))))


@app.command()
@with_system
def result(
    settings: Load,
    run: RunId,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="One result key.")] = None,
    wait: Annotated[str | None, typer.Option(help="Wait so long for the run's end, such as 5m.")] = None,
    json: Json = False,
) -> None:
    """Show how a run ended, or print the value of one result key."""
    with errors_as_exit(json):
        from anabranch.cli.commands.inspect import show_result

        timeout = _duration("--wait", wait)
        raise typer.Exit(_async(show_result(settings(), run, key, timeout=timeout, json=json)))


@app.command()
@with_system
def events(
    settings: Load,
    run: RunId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """Print a run's lifecycle events, one JSON a line unless --output says otherwise."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.events import show_events

        form = Form.JSON if json else output
        raise typer.Exit(_async(show_events(settings(), run, follow=follow, form=form)))


@app.command()
@with_system
def context(
    settings: Load,
    run: RunId,
    at: Annotated[int | None, typer.Option(help="As of this version.")] = None,
    diff: Annotated[
        tuple[int, int] | None, typer.Option(metavar="A B", help="What versions A and B differ in.")
    ] = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Show the versions of the shared context of a run's session: who wrote what, and when."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.context import show_context

        raise typer.Exit(_async(show_context(settings(), run, at=at, between=diff, form=form_of(output, json))))


@app.command()
@with_system
def why(
    settings: Load,
    run: RunId,
    heal: Annotated[bool, typer.Option("--heal", help="Re-send pending work; safe to repeat.")] = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """Say which facts a run waits for, and why. Needs Kafka and Redis, and no service."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.why import why as do

        raise typer.Exit(_async(do(settings(), run, heal=heal, form=form_of(output, json))))


@app.command()
@with_system
def cancel(settings: Load, run: RunId, json: Json = False) -> None:
    """Cancel a run."""
    _control("cancel", settings, run, json)


@app.command()
@with_system
def pause(settings: Load, run: RunId, json: Json = False) -> None:
    """Start no further members of a run."""
    _control("pause", settings, run, json)


@app.command()
@with_system
def resume(settings: Load, run: RunId, json: Json = False) -> None:
    """Go on with a paused run."""
    _control("resume", settings, run, json)


@app.command()
@with_system
def retry(
    settings: Load,
    run: RunId,
    failed: Annotated[bool, typer.Option("--failed", help="Run again what has no result.")] = False,
    request_id: Annotated[str | None, typer.Option(help="Of the new run; the same one twice is one run.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start only; do not wait.")] = False,
    json: Json = False,
) -> None:
    """Start a run that takes over all results of one that did not complete."""
    with errors_as_exit(json):
        from anabranch.cli.commands.retry import retry as do

        work = do(settings(), run, failed=failed, request_id=request_id, detach=detach, json=json)
        raise typer.Exit(_async(work))


# --- servers --------------------------------------------------------------------------------------


@topics.command("create")
@with_settings
def topics_create(settings: Load, output: Output = None, json: Json = False) -> None:
    """Create the topics that are missing."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.control import create_topics

        raise typer.Exit(_async(create_topics(settings(), form=form_of(output, json))))


@app.command()
@with_settings
def rebuild(
    settings: Load,
    session: Annotated[str | None, typer.Option(help="All runs of a session.")] = None,
    run_: Annotated[str | None, typer.Option("--run", metavar="RUN", help="A run id or a request id.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every run that the log knows.")] = False,
    json: Json = False,
) -> None:
    """Write back to Redis what Kafka says that it should have."""
    with errors_as_exit(json):
        from anabranch.cli.commands.rebuild import rebuild_command

        work = rebuild_command(settings(), session=session, run=run_, everything=everything, json=json)
        raise typer.Exit(_async(work))


# --- what they share ------------------------------------------------------------------------------


def _async(work: Any) -> int:
    from anabranch.runtime.process.loops import run as run_async

    code: int = run_async(work)
    return code


def _serve(service: Any, settings: Load, concurrency: int | None, health_port: int | None) -> None:
    with errors_as_exit(json=False):
        from anabranch.compose import serve

        raise typer.Exit(serve(service, settings(concurrency=concurrency, health_port=health_port)))


def _control(action: Any, settings: Load, run: str, json: bool) -> None:
    with errors_as_exit(json):
        from anabranch.cli.commands.control import control

        raise typer.Exit(_async(control(settings(), action, run, json=json)))


def _duration(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    from anabranch.core.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        say(f"anabranch: {option}: {error}")
        raise typer.Exit(WRONG) from error
