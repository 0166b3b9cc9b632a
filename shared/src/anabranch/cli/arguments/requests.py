"""Arguments of `run`, `plan` and `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from anabranch.cli import completion
from anabranch.cli.arguments.options import (
    Embedded,
    Json,
    Load,
    Output,
    RequestFile,
    Strict,
    with_settings,
    with_system,
)
from anabranch.cli.exits import errors_as_exit
from anabranch.cli.render.tables import form_of

app = typer.Typer()

_Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="KEY=VALUE",
        help="Value of the context, or input of the definition: JSON, or else text.",
    ),
]
_Signals = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=JSON", help="Signal to send to the run at once; repeatable. NAME alone is null."),
]
_Decisions = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TASK=DECISION",
        help="Decide about a task when it waits for a person: approve or reject; repeatable.",
    ),
]


@app.command()
@with_system
def run(
    settings: Load,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]",
            help="A request in JSON or YAML; - reads standard input.",
            autocompletion=completion.request_files,
        ),
    ] = None,
    embedded: Embedded = False,
    detach: Annotated[bool, typer.Option("--detach", help="Submit the request and do not wait.")] = False,
    timeout: Annotated[str | None, typer.Option(help="Timeout of the run, such as 90s or 5m.")] = None,
    events_file: Annotated[
        Path | None, typer.Option(help="Write lifecycle events to this file, one JSON document per line.")
    ] = None,
    strict: Strict = False,
    definition: Annotated[
        str | None, typer.Option(metavar="NAME[@VERSION]", help="Start this definition in place of a file.")
    ] = None,
    inputs: _Inputs = None,
    signal: _Signals = None,
    decide: _Decisions = None,
    virtual_time: Annotated[
        bool, typer.Option("--virtual-time", help="With --embedded: waits of days end at once.")
    ] = False,
    json: Json = False,
) -> None:
    """Submit a request and wait until the run ends."""
    with errors_as_exit(json):
        from anabranch.cli.commands.run import RunOptions
        from anabranch.cli.commands.run import run as run_request

        options = RunOptions(
            file,
            embedded,
            detach,
            timeout,
            json,
            events_file,
            strict,
            definition,
            tuple(inputs or ()),
            tuple(signal or ()),
            virtual_time,
            tuple(decide or ()),
        )
        raise typer.Exit(run_request(options, settings()))


@app.command()
@with_settings
def plan(
    settings: Load,
    file: RequestFile,
    expand: Annotated[bool, typer.Option("--expand", help="List every member with its rendered inputs.")] = False,
    strict: Strict = False,
    graph: Annotated[
        Literal["mermaid", "dot"] | None,
        typer.Option("--graph", help="Print the graph of the tasks as the text of a diagram."),
    ] = None,
    forecast: Annotated[
        bool,
        typer.Option("--forecast", help="Simulate the run many times: when it ends, its costs, what bounds it."),
    ] = False,
    workers: Annotated[
        int,
        typer.Option("--workers", min=1, max=4096, help="Workers of the forecast, of `concurrency` slots each."),
    ] = 1,
    measured: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="What the forecast is made from: measurements, or events of earlier runs; repeatable.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the forecast: the same one, the same numbers.")] = 0,
    output: Output = None,
    json: Json = False,
) -> None:
    """Validate a request and show what it would run; needs no server."""
    with errors_as_exit(json or output == "json"):
        from anabranch.cli.commands.plan import plan as show_plan

        form = form_of(output, json)
        options = None
        if forecast:
            from anabranch.cli.commands.plan_forecast import ForecastOptions

            options = ForecastOptions(workers, tuple(measured or ()), seed)
        raise typer.Exit(
            show_plan(file, settings(), form=form, expand=expand, strict=strict, graph=graph, forecast=options)
        )


@app.command()
def convert(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A workflow of GitHub Actions, or a canvas of Celery as JSON; - reads standard input.",
            autocompletion=completion.request_files,
        ),
    ],
    system: Annotated[
        Literal["github", "celery"] | None,
        typer.Option("--from", help="System that the file is of. Default: recognized by its fields."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the request to this file: .json, or else YAML.")
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SCRIPT", help="Shell script that replaces an action of GitHub; repeatable."),
    ] = None,
    engine: Annotated[
        Literal["process", "container", "kubernetes"],
        typer.Option(help="Built-in agent that runs jobs of GitHub Actions without a container."),
    ] = "process",
    container_engine: Annotated[
        Literal["container", "kubernetes"], typer.Option(help="Built-in agent that runs jobs with a container.")
    ] = "container",
    json: Json = False,
) -> None:
    """Convert a pipeline of another system into a request; needs no server."""
    with errors_as_exit(json):
        from anabranch.cli.commands.convert import convert as convert_pipeline
        from anabranch.cli.commands.convert import scripts_of
        from anabranch.core.pipelines.converter import PipelineConverter

        converter = PipelineConverter(
            actions=scripts_of(action or ()), engine=engine, container_engine=container_engine
        )
        raise typer.Exit(convert_pipeline(file, converter, system=system, output=output, json=json))
