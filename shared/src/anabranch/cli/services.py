"""`agency`, `taskgroup`, `eventmanager`: one service in this process; `dev`: the whole system in it."""

from __future__ import annotations

import asyncio
import importlib
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

from anabranch.cli.exits import COMPLETED
from anabranch.cli.follow import Following, watch
from anabranch.cli.loop import on_interrupt
from anabranch.cli.output import say
from anabranch.cli.run_command import rejected, summarise
from anabranch.cli.systems import load_registry
from anabranch.cli.views import PlainView
from anabranch.core.errors import RequestRefused
from anabranch.runtime.clock import SystemClock

if TYPE_CHECKING:
    from anabranch.embedded import Embedded
    from anabranch.runtime.settings import Settings
    from anabranch.sdk.client import Client
    from anabranch_gateway.parts import Examine

Service = Literal["agency", "taskgroup", "eventmanager", "gateway"]

DEV_PORT = 8321
"""Of the gateway of `dev`, where it is free."""


def serve(service: Service, settings: Settings) -> int:
    """Run one service until it is told to stop; returns its exit code."""
    app = importlib.import_module(f"anabranch_{service}.app")
    if service == "gateway":
        return cast("int", app.main(settings, examiner(settings)))
    return cast("int", app.main(settings))


def examiner(settings: Settings) -> Examine:
    """Why a run does not end, for the gateway: to say it takes code of the services, which no service imports."""

    async def examine(client: Client, run: str, heal: bool) -> dict[str, Any]:
        from anabranch.cli.why_command import explain

        return await explain(client, settings, run, heal=heal)

    return examine


async def develop(settings: Settings) -> int:
    """Keep a whole system running; each line on standard input names a request's file to run."""
    from anabranch.embedded import embedded

    registry = load_registry(settings.agents)
    stop = asyncio.Event()
    async with embedded(registry, settings) as system, _gateway(system, settings, registry.names):
        say(f"Anabranch is running: {system.description}.")
        say(f"Agents: {', '.join(sorted(registry.names))}")
        say("Type the path of a request's file to run it; an interrupt ends the system.")
        with on_interrupt(stop.set, stop.set):
            reading = asyncio.create_task(_serve_lines(system.client, registry.names))
            await stop.wait()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    return COMPLETED


@asynccontextmanager
async def _gateway(system: Embedded, settings: Settings, agents: frozenset[str]) -> AsyncIterator[None]:
    """The gateway over the system's own parts."""
    from anabranch.runtime.resources import Resources
    from anabranch.runtime.supervision import Supervisor
    from anabranch_gateway.app import build

    links, supervisor = system.client.links, Supervisor()
    own = replace(settings, gateway_port=settings.gateway_port or _free(settings.gateway_host, DEV_PORT))
    resources = Resources(
        own, links.names, links.log, links.store, links.notifier, links.clock, links.ids, supervisor
    )
    gateway = build(resources, agents, examiner(settings), announce=lambda url: say(f"Dashboard and API: {url}"))
    try:
        await gateway.start()
        yield
    finally:
        await gateway.stop()
        await supervisor.close()


def _free(host: str, port: int) -> int:
    """The port where nobody listens on it, else 0, for any."""
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return 0
    return port


async def _serve_lines(client: Client, agents: frozenset[str]) -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    threading.Thread(target=_read_lines, args=(loop, lines), name="standard-input", daemon=True).start()
    while True:
        file = (await lines.get()).strip()
        if file:
            await _run_file(client, file, agents)


def _read_lines(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str]) -> None:
    """Hand over each line of standard input. A daemon thread, for reading cannot be interrupted."""
    for line in sys.stdin:
        try:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        except RuntimeError:  # the loop is closed: the system has ended
            return


async def _run_file(client: Client, file: str, agents: frozenset[str]) -> None:
    try:
        run = await client.submit(file, agents=agents)
    except RequestRefused as refused:
        summarise(rejected(refused))
        return
    view = PlainView(SystemClock())
    watching = asyncio.create_task(watch(run, Following(view)))
    summarise(await run.result())
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
