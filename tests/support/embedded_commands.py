"""Commands of a test in its own process, on an embedded system instead of servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from waiting import eventually_true

from anabranch import Client, Registry
from anabranch.embedded import Embedded, embedded
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.reading.views import list_views


def connect_commands(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    """Make commands use this client, whatever their settings."""

    @asynccontextmanager
    async def open_client(_: Settings) -> AsyncIterator[Client]:
        yield client

    monkeypatch.setattr("anabranch.cli.backends.selection.open_client", open_client)


@asynccontextmanager
async def system_after_a_run(
    monkeypatch: pytest.MonkeyPatch, agent: Callable[..., Any], request: dict[str, Any]
) -> AsyncIterator[Embedded]:
    """A system with this agent, used by commands, on which the request has completed and its view shows it."""
    async with embedded(Registry.builtin().add(agent), store="memory") as system:
        run = await system.client.submit(request)
        await run.result()
        connect_commands(monkeypatch, system.client)

        # Views are written by the EventManager, after the final record that ends `result`.
        async def is_shown() -> bool:
            views = await list_views(system.store, system.names)
            return any(view.status == "completed" for view in views)

        await eventually_true(is_shown, because="no view shows the completed run")
        yield system
