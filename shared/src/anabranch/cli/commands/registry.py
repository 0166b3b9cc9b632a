"""`agents` and `workers`: print the live workers and their agents. Read-only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anabranch.cli.backends.selection import open_installation
from anabranch.cli.exits import COMPLETED
from anabranch.cli.render.output import seconds
from anabranch.cli.render.tables import Column, Form, Listing, fields, moment, show, timestamp
from anabranch.core.wire.worker_card import shown_retry

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings

NOTHING = "No worker runs. Start one with: anabranch taskgroup --agents MODULE"


async def show_agents(settings: Settings, *, form: Form) -> int:
    """Print the agents of the live workers, by name."""
    async with open_installation(settings) as system:
        found = await system.agents()
    show(Listing(AGENT_COLUMNS, found, {"agents": list(found)}, NOTHING), form)
    return COMPLETED


async def show_workers(settings: Settings, *, form: Form) -> int:
    """Print the live workers, by pool and host."""
    async with open_installation(settings) as system:
        found = await system.workers()
    show(Listing(WORKER_COLUMNS, found, {"workers": list(found)}, NOTHING), form)
    return COMPLETED


def _state(worker: Mapping[str, Any]) -> str:
    return "draining" if worker["draining"] else "live"


def _timeout(value: float | None) -> str:
    return "" if value is None else seconds(value)


AGENT_COLUMNS: tuple[Column[Mapping[str, Any]], ...] = (
    *fields("name", "version", "kind"),
    Column("capabilities", lambda agent: ", ".join(agent["capabilities"])),
    Column("workers", lambda agent: len(agent["workers"]), justify="right"),
    Column("slots", lambda agent: agent["slots"], justify="right"),
    Column("pools", lambda agent: ", ".join(agent["pools"])),
    Column("timeout", lambda agent: agent["timeout"], words=_timeout, justify="right"),
    Column("retry", lambda agent: shown_retry(agent["retry"])),
)
WORKER_COLUMNS: tuple[Column[Mapping[str, Any]], ...] = (
    Column("worker", lambda worker: worker["id"]),
    *fields("host", "pid", "pool"),
    Column("state", _state),
    Column("slots", lambda worker: worker["slots"], justify="right"),
    Column("members", lambda worker: worker["load"]["members"], justify="right"),
    Column("chunks", lambda worker: worker["load"]["chunks"], justify="right"),
    Column("started", lambda worker: timestamp(worker["started_at"]), words=moment),
    Column("agents", lambda worker: ", ".join(worker["agents"])),
)
