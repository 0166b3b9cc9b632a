"""Arguments of `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anabranch.cli.arguments.options import Embedded, Json, Load, with_settings
from anabranch.cli.arguments.running import run_and_exit
from anabranch.cli.durations import seconds_of
from anabranch.cli.exits import errors_as_exit
from anabranch.cli.numbers import whole_numbers

app = typer.Typer(help="Measure this installation, from requests to results.", no_args_is_help=True)

Timeout = Annotated[str, typer.Option(help="Maximum duration of one run, such as 90s; a longer one is a failure.")]
Bytes = Annotated[
    bool, typer.Option("--bytes", help="Also measure the bytes on the log and in Redis; not with --embedded.")
]


@app.command()
@with_settings
def fanout(
    settings: Load,
    tasks: Annotated[int, typer.Option(min=1, help="Members of the fan-out.")] = 100_000,
    wait: Annotated[
        str, typer.Option(help="Duration of each member, such as 10ms, to see how workers scale.")
    ] = "0s",
    embedded: Embedded = False,
    measure_bytes: Bytes = False,
    timeout: Timeout = "10m",
    json: Json = False,
) -> None:
    """Measure one wide fan-out and its join, and single tasks."""
    with errors_as_exit(json):
        from anabranch.cli.bench.fanout import fanout as measure

        options = _options(embedded, timeout, json, measure_bytes)
        run_and_exit(measure(settings(), options, tasks, seconds_of("--wait", wait)))


@app.command()
@with_settings
def latency(
    settings: Load,
    requests: Annotated[int, typer.Option(min=1, help="Number of requests, one after another.")] = 200,
    embedded: Embedded = False,
    timeout: Timeout = "1m",
    json: Json = False,
) -> None:
    """Measure the latency of requests with one task."""
    with errors_as_exit(json):
        from anabranch.cli.bench.latency import latency as measure

        run_and_exit(measure(settings(), _options(embedded, timeout, json), requests))


@app.command("join-lag")
@with_settings
def join_lag(
    settings: Load,
    requests: Annotated[int, typer.Option(min=1, help="Number of joins, one after another.")] = 100,
    members: Annotated[int, typer.Option(min=1, help="Members of each join.")] = 20,
    embedded: Embedded = False,
    timeout: Timeout = "1m",
    json: Json = False,
) -> None:
    """Measure the time from the end of the last member to the start of the task that depends on the join. Start
    the workers with --agents anabranch.cli.bench.agents for exact times."""
    with errors_as_exit(json):
        from anabranch.cli.bench.join_lag import join_lag as measure

        run_and_exit(measure(settings(), _options(embedded, timeout, json), requests, members))


@app.command()
@with_settings
def workflows(
    settings: Load,
    tasks: Annotated[int, typer.Option(min=1, help="Number of tasks.")] = 2_000,
    edges: Annotated[int, typer.Option(min=0, help="Number of dependencies between tasks.")] = 6_000,
    layers: Annotated[int, typer.Option(min=1, help="Length of the longest chain of tasks.")] = 20,
    file: Annotated[Path | None, typer.Option(help="Measure this request instead of a generated one.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Number of runs; the median is reported.")] = 3,
    embedded: Embedded = False,
    timeout: Timeout = "10m",
    json: Json = False,
) -> None:
    """Measure a workflow of many tasks with many dependencies."""
    with errors_as_exit(json):
        from anabranch.cli.bench.workflows import from_document, generated
        from anabranch.cli.bench.workflows import workflows as measure
        from anabranch.core.request.admission import Limits
        from anabranch.sdk.request_file import read_document

        found = settings()
        limits = Limits(found.request_limit, found.members_limit, found.inline_limit)
        workflow = (
            from_document(read_document(file), file.name, limits) if file else generated(tasks, edges, layers)
        )
        run_and_exit(measure(found, _options(embedded, timeout, json), workflow, repeat))


@app.command()
@with_settings
def runs(
    settings: Load,
    count: Annotated[int, typer.Option("--runs", min=1, help="Number of runs.")] = 1_000,
    at_once: Annotated[
        str, typer.Option(help="Number of runs at the same time; several, such as 1,10,100, one after another.")
    ] = "50",
    cpu: Annotated[
        str,
        typer.Option(
            metavar="PIDS",
            help="Also measure the processor time of the services with these process ids, separated by commas.",
        ),
    ] = "",
    embedded: Embedded = False,
    timeout: Timeout = "10m",
    json: Json = False,
) -> None:
    """Measure many small runs at the same time. Each has three groups of three tasks. --cpu needs Linux, and
    services on this machine."""
    with errors_as_exit(json):
        from anabranch.cli.bench.runs import runs as measure

        levels, processes = whole_numbers("--at-once", at_once), whole_numbers("--cpu", cpu) if cpu else []
        run_and_exit(measure(settings(), _options(embedded, timeout, json), count, levels, processes))


@app.command()
@with_settings
def chain(
    settings: Load,
    chains: Annotated[int, typer.Option(min=1, help="Number of chains, one after another.")] = 20,
    embedded: Embedded = False,
    measure_bytes: Bytes = False,
    timeout: Timeout = "1m",
    json: Json = False,
) -> None:
    """Measure a chain of six fan-outs of ten members."""
    with errors_as_exit(json):
        from anabranch.cli.bench.chain import chain as measure

        run_and_exit(measure(settings(), _options(embedded, timeout, json, measure_bytes), chains))


@app.command()
@with_settings
def fairness(
    settings: Load,
    members: Annotated[int, typer.Option(min=1, help="Members of the wide run.")] = 1_000_000,
    count: Annotated[int, typer.Option("--runs", min=1, help="Maximum number of small runs.")] = 50,
    embedded: Embedded = False,
    timeout: Timeout = "10m",
    json: Json = False,
) -> None:
    """Measure small runs of three tasks while a very wide run is in progress."""
    with errors_as_exit(json):
        from anabranch.cli.bench.fairness import fairness as measure

        run_and_exit(measure(settings(), _options(embedded, timeout, json), members, count))


def _options(embedded: bool, timeout: str, json: bool, measure_bytes: bool = False) -> Any:
    from anabranch.cli.bench.command import BenchOptions

    return BenchOptions(embedded, seconds_of("--timeout", timeout), json, measure_bytes)
