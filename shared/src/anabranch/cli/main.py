"""The command `anabranch`. `cli.arguments` has its commands; this module runs one and ends the process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from anabranch.cli.arguments import (
    bench,
    definitions,
    dlq,
    executions,
    history,
    keys,
    limits,
    registry,
    requests,
    runs,
    schedules,
    servers,
    system,
    tasks,
    watching,
)
from anabranch.cli.render.output import print_text
from anabranch.runtime.process.streams import lasting_streams

app = typer.Typer(
    name="anabranch",
    help="Fan tasks out over Kafka and join their results.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, because importing rich is slow
    context_settings={"help_option_names": ["-h", "--help"]},
)
for theme in (system, requests, runs, watching, registry, limits, servers):
    app.add_typer(theme.app)
app.add_typer(bench.app, name="bench")
app.add_typer(dlq.app, name="dlq")
app.add_typer(history.app, name="history")
app.add_typer(keys.app, name="keys")
app.add_typer(definitions.app, name="definitions")
app.add_typer(schedules.app, name="schedules")
app.add_typer(tasks.app, name="tasks")
app.add_typer(executions.app, name="executions")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code. With the process's own arguments, end the process afterwards."""
    if arguments is not None:
        return _run_command(list(arguments))
    code = _run_command(None)
    if "anabranch.runtime.process.loops" in sys.modules:  # threads of agents exist only if a loop ran
        from anabranch.runtime.process.loops import end_process_with

        end_process_with(code)
    return code


def _run_command(arguments: list[str] | None) -> int:
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
    """Fan tasks out over Kafka and join their results."""
