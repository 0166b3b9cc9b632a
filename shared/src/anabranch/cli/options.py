"""Options that many commands share, and the settings that they make.

`with_settings` adds the options of the configuration to a command, so that each is written down once.
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
Output = Annotated[
    Form | None, typer.Option("--output", "-o", help="How to print it: for people, as --json, or as CSV.")
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
Strict = Annotated[bool, typer.Option("--strict", help="Refuse placeholders that have no value.")]
Embedded = Annotated[bool, typer.Option("--embedded", help="Run everything in this process; needs no server.")]

_SETTINGS: Mapping[str, Any] = {
    "brokers": Annotated[str | None, typer.Option(help="Kafka: host:port, several with commas.")],
    "redis_url": Annotated[str | None, typer.Option(help="Redis: redis://host:6379/0, or rediss://.")],
    "prefix": Annotated[str | None, typer.Option(help="Of all names on the servers.")],
    "agents": Annotated[
        list[str] | None, typer.Option(help="Modules with agents, pkg.module; repeatable, or with commas.")
    ],
    "config": Annotated[Path | None, typer.Option(help="The file with settings (YAML or TOML).")],
    "set_": Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; repeatable.")
    ],
}

_GATEWAY: Mapping[str, Any] = {
    "url": Annotated[
        str | None,
        typer.Option(help="Send the command to this gateway, http://host:port/, not to Kafka and Redis."),
    ],
    "api_key": Annotated[
        str | None,
        typer.Option(help="API key of the gateway; ANABRANCH_API_KEY keeps it out of the process list."),
    ],
}


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the configuration. Its parameter `settings` gets them as a function that
    loads the settings, with overrides of the command's own as keyword arguments."""
    return _with(_SETTINGS, command)


def with_system(command: Callable[..., None]) -> Callable[..., None]:
    """The same for a command on a running system, which it reaches through a gateway or through Kafka and
    Redis."""
    return _with({**_GATEWAY, **_SETTINGS}, command)


def _with(shared: Mapping[str, Any], command: Callable[..., None]) -> Callable[..., None]:
    own = inspect.signature(command).parameters
    hints = get_type_hints(command, include_extras=True)

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        options = {name: given.pop(name) for name in shared}
        command(settings=functools.partial(load_settings, options), **given)

    kept = [
        each.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, each in own.items()
        if name != "settings"
    ]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in shared.items()
    ]
    vars(wrapper)["__signature__"] = inspect.Signature([*kept, *added])
    wrapper.__annotations__ = {each.name: each.annotation for each in (*kept, *added)}
    del vars(wrapper)["__wrapped__"]  # else its annotations would be read
    return wrapper


Load = Callable[..., Any]
"""Gives the Settings; named so loosely because annotations of commands are read when they are made."""


def load_settings(options: Mapping[str, Any], /, **overrides: Any) -> Settings:
    """Settings from options, environment and file.

    Raises:
        Misconfigured: one of them is wrong.
    """
    from anabranch.core.errors import Misconfigured
    from anabranch.runtime.process.settings import Settings

    given = {name: value for name, value in options.items() if name not in ("config", "set_")}
    for entry in options["set_"] or ():
        name, equals, value = entry.partition("=")
        if not equals:
            raise Misconfigured("--set", f"{entry!r} has no value", "write --set name=value")
        given[name.replace("-", "_")] = value
    for variable, meant in Settings.misspelt(os.environ).items():
        say(f"anabranch: warning: {variable} is no setting and has no effect: did you mean {meant}?")
    return Settings.load(file=options["config"], overrides={**given, **overrides})
