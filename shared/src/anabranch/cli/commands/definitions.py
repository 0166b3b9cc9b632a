"""`definitions push | list | show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from anabranch.cli import request_files
from anabranch.cli.backends.selection import open_installation
from anabranch.cli.exits import COMPLETED
from anabranch.cli.render.output import print_json, print_text, say
from anabranch.core.errors import Misconfigured

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings


async def push(settings: Settings, file: str, *, json: bool) -> int:
    """Store the definition in a file.

    Raises:
        RequestRefused: it is invalid, or its version exists with another content.
    """
    document = request_files.load(file)
    async with open_installation(settings) as system:
        pushed = await system.push_definition(document)
    if json:
        print_json(dict(pushed))
    else:
        say(f"Definition {pushed['name']}@{pushed['version']}, hash {pushed['hash'][:12]}.")
        say(f"Start it with: anabranch run --definition {pushed['name']} --input KEY=VALUE")
    return COMPLETED


async def list_definitions(settings: Settings, *, json: bool) -> int:
    """Print every version of every definition."""
    async with open_installation(settings) as system:
        found = await system.definitions()
    if json:
        print_json({"definitions": [dict(each) for each in found]})
    for each in () if json else found:
        about = f"  {each['description']}" if each["description"] else ""
        print_text(f"{each['name']}@{each['version']}  {each['hash'][:12]}{about}")
    return COMPLETED


async def show(settings: Settings, reference: str, *, json: bool) -> int:
    """Print one definition as JSON.

    Raises:
        RequestRefused: there is none.
    """
    async with open_installation(settings) as system:
        found = await system.definition(reference)
    if json:
        print_json(dict(found))
    else:
        print_text(orjson.dumps(dict(found), option=orjson.OPT_INDENT_2).decode())
    return COMPLETED


def definition_request(reference: str, inputs: Sequence[str]) -> dict[str, Any]:
    """The request of `run --definition NAME --input KEY=VALUE`: a value is JSON, or else text.

    Raises:
        Misconfigured: an input has no `=`.
    """
    return {"definition": reference, "input": values_of("--input", inputs)}


def values_of(option: str, texts: Sequence[str]) -> Mapping[str, Any]:
    """The values of a repeated option KEY=VALUE. Raises Misconfigured: a text has no `=`."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise Misconfigured(option, f"{text!r} is not KEY=VALUE", 'such as --input topic="rivers"')
        try:
            found[key] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[key] = value
    return found
