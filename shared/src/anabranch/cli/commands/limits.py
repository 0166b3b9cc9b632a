"""`limits` prints the limits that runs share; `breaker` opens and closes the breaker of an agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from anabranch.cli.backends.selection import open_installation
from anabranch.cli.exits import COMPLETED
from anabranch.cli.render.output import print_json, say
from anabranch.cli.render.tables import Column, Form, Listing, fields, show
from anabranch.cli.said import Said
from anabranch.core.durations import format_duration
from anabranch.operations.limits import said_of_breaker

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings

NOTHING = "No limit is held or waited for."


async def show_limits(settings: Settings, *, form: Form) -> int:
    """Print the limits that are held or waited for."""
    async with open_installation(settings) as system:
        found = await system.limits()
    show(Listing(COLUMNS, found, {"limits": list(found)}, NOTHING), form)
    return COMPLETED


async def set_breaker(
    settings: Settings, action: Literal["open", "close"], agent: str, said: Said, *, json: bool
) -> int:
    """Open or close the breaker of an agent."""
    async with open_installation(settings) as system:
        await system.set_breaker(agent, action, said)
    if json:
        print_json({"agent": agent, "action": action})
    then = "its members wait until it is closed" if action == "open" else "its members start"
    say(f"The breaker of the agent {agent} is to {action}: {then}. See: anabranch limits")
    return COMPLETED


def _allowed(limit: Mapping[str, Any]) -> str:
    if limit["kind"] == "breaker":
        return said_of_breaker(limit)
    per = f" in {format_duration(limit['per'])}" if limit["kind"] == "rate" else ""
    return f"{limit['limit']:,}{per}"


def _held_by(limit: Mapping[str, Any]) -> str:
    named = ["/".join(filter(None, (each["run_id"], each["group"], each["task"]))) for each in limit["holders"]]
    return ", ".join(dict.fromkeys(named[:2])) + (", ..." if len(named) > 2 else "")


COLUMNS: tuple[Column[Mapping[str, Any]], ...] = (
    *fields("kind", "project", "key"),
    Column("limit", _allowed),
    Column("held", lambda limit: limit["held"], justify="right"),
    Column("waiting", lambda limit: limit["waiting"], justify="right"),
    Column("held by", _held_by),
)
