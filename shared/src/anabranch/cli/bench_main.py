"""The arguments of `anabranch bench`, each command handed to the module that does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anabranch.cli.exits import WRONG, errors_as_exit
from anabranch.cli.options import Embedded, Json, Load, with_settings
from anabranch.cli.render.output import say

app = typer.Typer(help="Measure this installation, from requests to results.", no_args_is_help=True)

Timeout = Annotated[str, typer.Option(help="Give up on a run after so long.")]
Bytes = Annotated[
    bool, typer.Option("--bytes", help="Also weigh what stays on the log and in Redis; on servers only.")
]


@app.command()
@with_settings
def fanout(
    settings: Load,
    tasks: Annotated[int, typer.Option(min=1, help="Members of the fan-out.")] = 100_000,
    wait: Annotated[
        str, typer.Option(help="How long each member waits: 10ms shows what more workers bring.")
    ] = "0s",
    embedded: Embedded = False,
    weigh: Bytes = False,
    timeout: Timeout = "10m",
    json: Json = False,
) -> None:
    """Measure one wide fan-out and its join, and single tasks."""
    with errors_as_exit(json):
        from anabranch.cli.bench.fanout import fanout as do

        _run(do(settings(), _options(embedded, timeout, json, weigh), tasks, _seconds(wait, "--wait")))


@app.command()
@with_settings
def latency(
    settings: Load,
    requests: Annotated[int, typer.Option(min=1, help="How many, one after another.")] = 200,
    embedded: Embedded = False,
    timeout: Timeout = "1m",
    json: Json = False,
) -> None:
    """Measure requests of one task, one after another."""
    with errors_as_exit(json):
        from anabranch.cli.bench.latency import latency as do

        _run(do(settings(), _options(embedded, timeout, json), requests))


@app.command("join-lag")
@with_settings
def join_lag(
    settings: Load,
    requests: Annotated[int, typer.Option(min=1, help="How many joins, one after another.")] = 100,
    members: Annotated[int, typer.Option(min=1, help="Members that each one joins.")] = 20,
    embedded: Embedded = False,
    timeout: Timeout = "1m",
    json: Json = False,
) -> None:
    """Measure the time from the last member's end to the start of the task that depends on the join. Start the
    workers with --agents anabranch.cli.bench.agents for exact times."""
    with errors_as_exit(json):
        from anabranch.cli.bench.join_lag import join_lag as do

        _run(do(settings(), _options(embedded, timeout, json), requests, members))


@app.command()
@with_settings
def workflows(
    settings: Load,
    tasks: Annotated[int, typer.Option(min=1, help="Tasks of the workflow.")] = 2_000,
    edges: Annotated[int, typer.Option(min=0, help="Dependencies between them.")] = 6_000,
    layers: Annotated[int, typer.Option(min=1, help="How deep it is.")] = 20,
    file: Annotated[Path | None, typer.Option(help="Measure this request instead.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="How often; the median counts.")] = 3,
    embedded: Embedded = False,
    timeout: Timeout = "10m",
    json: Json = False,
) -> None:
    """Measure a workflow of many tasks with many dependencies."""
    with errors_as_exit(json):
        from anabranch.cli.bench.workflows import from_document, made
        from anabranch.cli.bench.workflows import workflows as do
        from anabranch.core.request.admission import Limits
        from anabranch.sdk.request_file import read_document

        found = settings()
        limits = Limits(found.request_limit, found.members_limit, found.inline_limit)
        workflow = from_document(read_document(file), file.name, limits) if file else made(tasks, edges, layers)
        _run(do(found, _options(embedded, timeout, json), workflow, repeat))


@app.command()
@with_settings
def runs(
    settings: Load,
    count: Annotated[int, typer.Option("--runs", min=1, help="How many runs.")] = 1_000,
    at_once: Annotated[int, typer.Option(min=1, help="How many of them at a time.")] = 50,
    embedded: Embedded = False,
    timeout: Timeout = "10m",
    json: Json = False,
) -> None:
    """Measure many small runs at once, each three groups of three tasks."""
    with errors_as_exit(json):
        from anabranch.cli.bench.runs import runs as do

        _run(do(settings(), _options(embedded, timeout, json), count, at_once))


@app.command()
@with_settings
def chain(
    settings: Load,
    chains: Annotated[int, typer.Option(min=1, help="How many, one after another.")] = 20,
    embedded: Embedded = False,
    weigh: Bytes = False,
    timeout: Timeout = "1m",
    json: Json = False,
) -> None:
    """Measure a chain of six fan-outs of ten."""
    with errors_as_exit(json):
        from anabranch.cli.bench.chain import chain as do

        _run(do(settings(), _options(embedded, timeout, json, weigh), chains))


@app.command()
@with_settings
def fairness(
    settings: Load,
    members: Annotated[int, typer.Option(min=1, help="Members of the wide run.")] = 1_000_000,
    count: Annotated[int, typer.Option("--runs", min=1, help="How many small runs, at most.")] = 50,
    embedded: Embedded = False,
    timeout: Timeout = "10m",
    json: Json = False,
) -> None:
    """Measure runs of three tasks behind a very wide one."""
    with errors_as_exit(json):
        from anabranch.cli.bench.fairness import fairness as do

        _run(do(settings(), _options(embedded, timeout, json), members, count))


def _options(embedded: bool, timeout: str, json: bool, weigh: bool = False) -> Any:
    from anabranch.cli.bench.command import BenchOptions

    return BenchOptions(embedded, _seconds(timeout, "--timeout"), json, weigh)


def _seconds(text: str, option: str) -> float:
    from anabranch.core.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        say(f"anabranch: {option}: {error}")
        raise typer.Exit(WRONG) from error


def _run(work: Any) -> None:
    from anabranch.runtime.process.loops import run as run_async

    raise typer.Exit(run_async(work))
