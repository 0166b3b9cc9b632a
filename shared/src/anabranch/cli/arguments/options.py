"""Options that several commands share, and the settings that result from them.

`with_settings` and `with_system` add the options of the configuration to a command, so that each is declared once.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from anabranch.cli import completion
from anabranch.cli.render.output import say
from anabranch.cli.render.tables import Form

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
By = Annotated[
    str | None,
    typer.Option("--by", help="Who gives the command; by default the user of this system. A gateway fills it in."),
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; shown in the run's events and status.")]
Output = Annotated[
    Form | None, typer.Option("--output", "-o", help="Format: a table for people, JSON (as --json), or CSV.")
]
RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="A run id or a request id.", autocompletion=completion.runs)
]
RequestFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A request in JSON or YAML; - reads standard input.",
        autocompletion=completion.request_files,
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Reject placeholders that have no value.")]
Embedded = Annotated[bool, typer.Option("--embedded", help="Run all services in this process; needs no server.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Print new ones too, until the run has ended.")]

_SETTINGS: Mapping[str, Any] = {
    "brokers": Annotated[str | None, typer.Option(help="Kafka brokers: host:port, separated by commas.")],
    "redis_url": Annotated[
        str | None, typer.Option(help="URL of Redis: redis://host:6379/0, or rediss:// for TLS.")
    ],
    "prefix": Annotated[str | None, typer.Option(help="Prefix of all topics, consumer groups and internal keys.")],
    "agents": Annotated[
        list[str] | None,
        typer.Option(help="Modules that define agents, such as pkg.module; repeatable, or separated by commas."),
    ],
    "config": Annotated[Path | None, typer.Option(help="File with settings (YAML or TOML).")],
    "set_": Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; repeatable.")
    ],
}

_GATEWAY: Mapping[str, Any] = {
    "url": Annotated[
        str | None,
        typer.Option(help="Gateway to use instead of Kafka and Redis: http://host:port/."),
    ],
    "api_key": Annotated[
        str | None,
        typer.Option(help="API key of the gateway. ANABRANCH_API_KEY keeps it out of the process list."),
    ],
}


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the configuration to a command.

    The command's parameter `settings` receives a function that loads the settings; its keyword arguments are the
    command's own overrides.
    """
    return _with(_SETTINGS, command)


def with_system(command: Callable[..., None]) -> Callable[..., None]:
    """As `with_settings`, for a command that uses a running system: adds the options of the gateway, too."""
    return _with({**_GATEWAY, **_SETTINGS}, command)


def _with(shared: Mapping[str, Any], command: Callable[..., None]) -> Callable[..., None]:
    own = inspect.signature(command).parameters
    # The annotations are strings (`from __future__ import annotations`); in the wrapper Typer could not resolve
    # them.
    hints = get_type_hints(command, include_extras=True)

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        options = {name: given.pop(name) for name in shared}
        command(settings=functools.partial(load_settings, options), **given)

    remaining = [
        each.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, each in own.items()
        if name != "settings"
    ]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in shared.items()
    ]
    # Typer reads a command's options from its signature and annotations, so the wrapper gets those of both.
    vars(wrapper)["__signature__"] = inspect.Signature([*remaining, *added])
    wrapper.__annotations__ = {each.name: each.annotation for each in (*remaining, *added)}
    del vars(wrapper)["__wrapped__"]  # typer would read the annotations of the wrapped function
    return wrapper


Load = Callable[..., Any]
"""Returns the Settings. Typed as Any because Typer evaluates the annotations of commands at import, and importing
`Settings` there would slow down `--help`."""


def load_settings(options: Mapping[str, Any], /, **overrides: Any) -> Settings:
    """Load the settings from options, environment and file.

    Raises:
        Misconfigured: a setting is invalid or unknown.
    """
    from anabranch.core.errors import Misconfigured
    from anabranch.runtime.process.settings import Settings

    given = {name: value for name, value in options.items() if name not in ("config", "set_")}
    for entry in options["set_"] or ():
        name, equals, value = entry.partition("=")
        if not equals:
            raise Misconfigured("--set", f"{entry!r} has no value", "write --set NAME=VALUE")
        given[name.replace("-", "_")] = value
    for variable, meant in Settings.misspelt(os.environ).items():
        say(f"anabranch: warning: {variable} is not a setting and has no effect: did you mean {meant}?")
    return Settings.load(file=options["config"], overrides={**given, **overrides})
