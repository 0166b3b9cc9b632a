"""`dlq list` prints dead letters grouped by kind of failure; `dlq show` prints one. Read-only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anabranch.cli.backends.selection import open_installation
from anabranch.cli.exits import COMPLETED
from anabranch.cli.render.output import count, print_json, say, short, short_line, wide_console
from anabranch.cli.render.tables import Column, Form, Listing, moment, number, show
from anabranch.cli.render.tracebacks import indented

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings

SHOWN = 100


async def list_dead_letters(
    settings: Settings, *, run: str | None, signature: str | None, every: bool, form: Form
) -> int:
    """Print one line per kind of failure, the one with the latest dead letter first."""
    async with open_installation(settings) as system:
        found = await system.dead_letter_groups(run=run, signature=signature, every=every)
    groups = found.groups
    more = (
        f" {count(found.decided, 'dead letter')} already redriven or dismissed: show them with --all."
        if found.decided
        else ""
    )
    document = {"groups": list(groups), "letters": found.dead_letters}
    rows = groups[:SHOWN] if form is Form.TABLE else groups
    show(Listing(GROUP_COLUMNS, rows, document, f"No dead letters.{more}"), form)
    if more and groups:
        say(more.strip())
    return COMPLETED


async def show_dead_letter(settings: Settings, letter_id: str, *, json: bool) -> int:
    """Print all details of a dead letter.

    Raises:
        Misconfigured: there is no such dead letter.
    """
    async with open_installation(settings) as system:
        document = await system.dead_letter(letter_id)
    if json:
        print_json(document)
    else:
        _print_whole(document)
    return COMPLETED


def _print_whole(document: Mapping[str, Any]) -> None:
    console = wide_console()
    for name, value in document.items():
        if name in ("headers", "value", "member"):
            continue
        console.print(f"{name:10} {value if isinstance(value, str) else short(value, 10_000)}", markup=False)
    for name, value in document["headers"]:
        console.print(f"header     {name} = {value if isinstance(value, str) else short(value)}", markup=False)
    traceback = (document["member"] or {}).get("traceback")
    if traceback is not None:
        console.print("traceback")
        for line in indented(traceback):
            console.print(line, markup=False)
    value = document["value"]
    console.print(value if isinstance(value, str) else short(value, 1_000_000), markup=False)


GROUP_COLUMNS: tuple[Column[Mapping[str, Any]], ...] = (
    Column("signature", lambda group: group["signature"]),
    Column("letters", lambda group: group["count"], words=number, justify="right"),
    Column("held", lambda group: group["held"], words=lambda held: number(held or None), justify="right"),
    Column(
        "redrivable", lambda group: group["redrivable"], words=lambda count: number(count or None), justify="right"
    ),
    Column("code", lambda group: group["code"]),
    Column("agent", lambda group: group["agent"]),
    Column("last", lambda group: group["last"], words=moment),
    Column("example", lambda group: group["example"]),
    Column("error", lambda group: group["error"], words=short_line, style=lambda _: "red"),
)
