"""`keys create`: makes an API key for the gateway, prints it once, and prints the entry for the file of keys."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli.arguments.options import Json
from anabranch.cli.exits import WRONG, errors_as_exit

app = typer.Typer(help="API keys of the gateway.", no_args_is_help=True)


@app.command("create")
def create(
    project: Annotated[
        list[str] | None, typer.Option(help="Project that the key may access; repeatable, * for all projects.")
    ] = None,
    role: Annotated[str, typer.Option(help="Role of the key: viewer, submitter or operator.")] = "submitter",
    name: Annotated[str, typer.Option(help="Name of the key's owner, for people.")] = "",
    json: Json = False,
) -> None:
    """Create an API key. Prints the key once, and its entry for the file that ANABRANCH_GATEWAY_KEYS names."""
    with errors_as_exit(json):
        raise typer.Exit(_create(project or [], role, name, json=json))


def _create(projects: list[str], role: str, name: str, *, json: bool) -> int:
    import os

    import yaml

    from anabranch.cli.render.output import print_json, print_text, say
    from anabranch.core.project import DEFAULT_PROJECT
    from anabranch_gateway.access.api_keys import new_key
    from anabranch_gateway.access.callers import ROLES

    known = next((each for each in ROLES if each == role), None)
    if known is None:
        say(f"anabranch: --role: {role!r} is not a role; use one of {', '.join(ROLES)}")
        return WRONG
    try:
        key, entry = new_key(known, projects or [DEFAULT_PROJECT], name, os.urandom)
    except ValueError as error:
        say(f"anabranch: --project: {error}")
        return WRONG
    if json:
        print_json({"key": key, "entry": entry.to_document()})
        return 0
    say("The API key, which is not stored and cannot be shown again:")
    print_text(key)
    say("Add this entry under `keys:` to the file that ANABRANCH_GATEWAY_KEYS names:")
    print_text(yaml.safe_dump([entry.to_document()], sort_keys=False).rstrip())
    return 0
