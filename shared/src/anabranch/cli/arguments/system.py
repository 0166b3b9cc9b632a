"""Arguments of `demo`, `dev` and the services."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.arguments.options import Load, with_settings
from anabranch.cli.arguments.running import run_and_exit, serve_and_exit
from anabranch.cli.exits import errors_as_exit

app = typer.Typer()

MAX_PORT = 65_535
Concurrency = Annotated[
    int | None, typer.Option(help="Maximum number of members that this process runs at the same time.")
]
Offers = Annotated[
    str | None, typer.Option(help="Resources and labels for tasks with `requires`: cpu=4,memory=8Gi,labels=ssd.")
]
Pool = Annotated[
    str | None,
    typer.Option(help="Pool of workers that this process belongs to: it runs only members of that pool."),
]
HealthPort = Annotated[
    int | None, typer.Option(help="Port of the health probes; 0 for any free port.", min=0, max=MAX_PORT)
]


# --- all services in this process -----------------------------------------------------------------


@app.command()
@with_settings
def demo(settings: Load) -> None:
    """Run a real job on a complete system in this process; needs no server."""
    with errors_as_exit(json=False):
        from anabranch.cli.commands.demo import show

        run_and_exit(show(settings()))


@app.command()
@with_settings
def dev(
    settings: Load,
    concurrency: Concurrency = None,
    offers: Offers = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port of the dashboard and the API; 0 for any free port. Default: 8321, if it is free.",
            min=0,
            max=MAX_PORT,
        ),
    ] = None,
) -> None:
    """Run a complete system in this process until Ctrl-C, for local work."""
    with errors_as_exit(json=False):
        from anabranch.cli.commands.dev import develop

        run_and_exit(develop(settings(concurrency=concurrency, offers=offers, gateway_port=port)))


# --- services -------------------------------------------------------------------------------------


@app.command()
@with_settings
def agency(settings: Load, concurrency: Concurrency = None, health_port: HealthPort = None) -> None:
    """Run the service that admits requests and joins runs."""
    serve_and_exit("agency", settings, concurrency=concurrency, health_port=health_port)


@app.command()
@with_settings
def taskgroup(
    settings: Load,
    concurrency: Concurrency = None,
    pool: Pool = None,
    offers: Offers = None,
    health_port: HealthPort = None,
) -> None:
    """Run the service that coordinates groups and runs agents."""
    overrides = {"concurrency": concurrency, "pool": pool, "offers": offers, "health_port": health_port}
    serve_and_exit("taskgroup", settings, **overrides)


@app.command()
@with_settings
def worker(
    settings: Load,
    concurrency: Concurrency = None,
    pool: Pool = None,
    offers: Offers = None,
    health_port: HealthPort = None,
) -> None:
    """Another name of `taskgroup`."""
    overrides = {"concurrency": concurrency, "pool": pool, "offers": offers, "health_port": health_port}
    serve_and_exit("taskgroup", settings, **overrides)


@app.command()
@with_settings
def eventmanager(settings: Load, concurrency: Concurrency = None, health_port: HealthPort = None) -> None:
    """Run the service that maintains views, forwards events and nudges stalled runs."""
    serve_and_exit("eventmanager", settings, concurrency=concurrency, health_port=health_port)


@app.command()
@with_settings
def gateway(
    settings: Load,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 for any free port.", min=0, max=MAX_PORT)
    ] = None,
    health_port: HealthPort = None,
) -> None:
    """Serve the HTTP API and the dashboard."""
    serve_and_exit("gateway", settings, gateway_host=host, gateway_port=port, health_port=health_port)
