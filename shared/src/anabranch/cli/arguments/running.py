"""Runs a command's coroutine or service and ends with its exit code."""

from __future__ import annotations

from typing import Any, NoReturn

import typer

from anabranch.cli.arguments.options import Load
from anabranch.cli.exits import errors_as_exit


def run_and_exit(work: Any) -> NoReturn:
    """Run a coroutine that returns an exit code on a new event loop. Raises typer.Exit with the code."""
    from anabranch.runtime.process.loops import run as run_async

    raise typer.Exit(run_async(work))


def serve_and_exit(service: Any, settings: Load, **overrides: Any) -> NoReturn:
    """Run a service until it is asked to stop. Raises typer.Exit.

    Args:
        overrides: settings that the command has as options of its own; None for an option that is not given.
    """
    with errors_as_exit(json=False):
        from anabranch.compose import serve

        raise typer.Exit(serve(service, settings(**overrides)))
