"""`agency`, `taskgroup`, `eventmanager`, `gateway`: one service in this process."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.client import Client
    from anabranch_gateway.context import Examine

Service = Literal["agency", "taskgroup", "eventmanager", "gateway"]


def serve(service: Service, settings: Settings) -> int:
    """Run one service until it is told to stop; returns its exit code."""
    app = importlib.import_module(f"anabranch_{service}.app")
    if service == "gateway":
        return cast("int", app.main(settings, examiner(settings)))
    return cast("int", app.main(settings))


def examiner(settings: Settings) -> Examine:
    """Why a run does not end, for the gateway: to say it takes code of the services, which no service imports."""

    async def examine(client: Client, run: str, heal: bool) -> dict[str, Any]:
        from anabranch.cli.commands.why import explain

        return await explain(client, settings, run, heal=heal)

    return examine
