"""`dev`: the whole system kept running in this process, with its gateway, for local work."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from anabranch.cli.backends.address_file import address_file_path, live_address, publish_address
from anabranch.cli.backends.systems import load_registry
from anabranch.cli.commands.run import rejected_result, summarise
from anabranch.cli.exits import COMPLETED
from anabranch.cli.interrupts import on_interrupt
from anabranch.cli.render.dev_console import console_logging, show_runs, with_member_ids
from anabranch.cli.render.output import say
from anabranch.core.errors import AnabranchError, RequestRefused
from anabranch.runtime.process.listening import PortTaken, listen

if TYPE_CHECKING:
    from anabranch.embedded import Embedded
    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.client import Client

DEV_PORT = 8321
"""Default port of the gateway of `dev`, if it is free."""


async def develop(settings: Settings) -> int:
    """Run a whole system until interrupted; each line on standard input is the path of a request file to run.

    Raises:
        PortTaken: the port that was named is in use.
    """
    from anabranch.embedded import embedded

    own = replace(settings, gateway_port=free_port(settings))
    registry = load_registry(settings.agents, settings).wrapped(with_member_ids)
    stop = asyncio.Event()
    with console_logging(settings):
        async with (
            embedded(registry, own, database_url=_database_url(own)) as system,
            show_runs(system.log, system.names),
            _gateway(system, own, registry.choices),
        ):
            say(f"Anabranch is running: {system.description}.")
            say(f"Agents: {', '.join(sorted(registry.names))}")
            say("Type the path of a request's file to run it; press Ctrl-C to stop.")
            with on_interrupt(stop.set, stop.set):
                reading = asyncio.create_task(_serve_lines(system.client, registry.choices))
                await stop.wait()
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
    return COMPLETED


def _database_url(settings: Settings) -> str | None:
    """Where the history of this system is: the configured database, else memory; None if the libraries for it are
    not installed."""
    if settings.database_url is None and importlib.util.find_spec("sqlalchemy") is None:
        return None
    return settings.database_url or "sqlite://"


def free_port(settings: Settings) -> int:
    """The port to listen on: the given port, which has to be free, else the default port, else any free port.

    Raises:
        PortTaken: the port that was named is in use.
    """
    named = "gateway_port" in settings.named
    port = settings.gateway_port if named else settings.gateway_port or DEV_PORT
    try:
        # Another process may take the port before the gateway listens; the gateway then reports that.
        listen(settings.gateway_host, port).close()
    except PortTaken as taken:
        known = _who_listens(taken)
        if named:
            raise known from taken
        say(f"Port {port} is already in use: {known.reason}. Using another free port.")
        return 0
    return port


def _who_listens(taken: PortTaken) -> PortTaken:
    """The error, with the process id if another `anabranch dev` of this user has the port."""
    other = live_address(address_file_path())
    if other is None or f":{taken.port}/" not in other.url:
        return taken
    return PortTaken(taken.host, taken.port, f"`anabranch dev` listens there, process {other.pid}")


@asynccontextmanager
async def _gateway(system: Embedded, settings: Settings, agents: frozenset[str]) -> AsyncIterator[None]:
    """Run the gateway of the embedded system and write its address file for the other commands."""
    from anabranch import compose
    from anabranch.runtime.process.resources import Resources
    from anabranch.runtime.process.supervision import Supervisor

    links, supervisor = system.client.links, Supervisor()
    ports = (links.names, links.log, links.store, links.notifier, links.clock, links.ids, supervisor)
    resources = Resources(replace(settings, database_url=None), *ports, database=system.database)
    gateway = compose.gateway(resources, agents, announce=lambda _: None)
    try:
        await gateway.start()
        with _publish_address(gateway.url):
            say(f"Dashboard and API: {gateway.url}")
            yield
    finally:
        await gateway.stop()
        await supervisor.close()


@contextlib.contextmanager
def _publish_address(url: str) -> Iterator[None]:
    """Write the address file. If that fails, warn that other commands need `--url`."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(publish_address(url, address_file_path()))
        except OSError as error:
            say(
                f"anabranch: warning: cannot write {address_file_path()} ({error.strerror}): "
                f"pass --url {url} to commands"
            )
        yield


async def _serve_lines(client: Client, agents: frozenset[str]) -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    threading.Thread(target=_read_lines, args=(loop, lines), name="standard-input", daemon=True).start()
    while True:
        file = (await lines.get()).strip()
        if file:
            await _run_file(client, file, agents)


def _read_lines(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str]) -> None:
    """Pass on each line of standard input. Runs in a daemon thread, because a blocking read cannot be
    interrupted."""
    for line in sys.stdin:
        try:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        except RuntimeError:  # the loop is closed: the system has ended
            return


async def _run_file(client: Client, file: str, agents: frozenset[str]) -> None:
    """Run a request file and print how it ended; the console prints the rest."""
    try:
        run = await client.submit(file, agents=agents)
        summarise(await run.result())
    except RequestRefused as refused:
        summarise(rejected_result(refused))
    except AnabranchError as error:  # a missing file must not end the system
        say(f"anabranch: {error}")
