"""Where a command works: on the configured servers, or on a whole system in this process."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anabranch.cli.backends.address_file import living, path_of
from anabranch.cli.backends.broker_probe import unreachable
from anabranch.core.errors import ServerUnavailable
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.client import Client

if TYPE_CHECKING:
    from anabranch.sdk.agents import Registry

CONNECT_SECONDS = 12.0
"""A little more than each adapter waits by itself, for they say better what is wrong."""


@dataclass(frozen=True, slots=True)
class OpenSystem:
    """An open client, and what it works on in words."""

    client: Client
    description: str


def load_registry(modules: Sequence[str]) -> Registry:
    """The built-in agents and those of these modules.

    Raises:
        Misconfigured: a module cannot be imported, or an agent's name is taken.
    """
    from anabranch.sdk.agents import Registry

    registry = Registry.builtin()
    for module in modules:
        registry.load(module)
    return registry


@asynccontextmanager
async def open_place(settings: Settings, registry: Registry | None) -> AsyncGenerator[OpenSystem, None]:
    """A client on the servers, or embedded where a registry is given.

    Raises:
        ServerUnavailable: a server did not answer within CONNECT_SECONDS.
    """
    if registry is not None:
        from anabranch.embedded import embedded
        from anabranch.runtime.instrumentation.telemetry import close_telemetry, open_telemetry
        from anabranch.runtime.process.logs import ATTEMPTS_LOGGER
        from anabranch.runtime.process.process_memory import collect_seldom

        ATTEMPTS_LOGGER.addHandler(logging.NullHandler())  # the command prints failures itself
        telemetry = open_telemetry("anabranch", os.environ, text=False)
        telemetry.adopt()
        try:
            async with embedded(registry, settings, telemetry=telemetry) as system:
                collect_seldom()
                yield OpenSystem(system.client, system.description)
        finally:
            await close_telemetry(telemetry)
        return
    async with connected(settings) as client:
        yield OpenSystem(client, f"Kafka {settings.brokers}, prefix {settings.prefix}")


@asynccontextmanager
async def connected(settings: Settings) -> AsyncGenerator[Client, None]:
    """Open a client on the servers. Raises ServerUnavailable after at most CONNECT_SECONDS, and within two seconds
    if no broker accepts a connection."""
    await refuse_if_away(settings)
    mute_kafka_client()
    client = Client.configured(settings)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await client.__aenter__()
    except TimeoutError as error:
        raise ServerUnavailable(
            "Kafka or Redis",
            f"{settings.brokers} and {settings.shown()['redis_url']}",
            f"no answer within {CONNECT_SECONDS:g} s",
            "start them, or name them with --brokers and --redis-url; --embedded needs none",
        ) from error
    try:
        yield client
    finally:
        await client.__aexit__(None, None, None)


async def refuse_if_away(settings: Settings) -> None:
    """Raise ServerUnavailable if no broker accepts a connection; the error names the ways to run without Kafka."""
    is_named = bool(settings.named & {"brokers", "redis_url"})
    dev = None if is_named else living(path_of())
    reason = await unreachable(settings.brokers, patient=is_named)
    if reason is None:
        return
    if is_named:
        fix = "Start it, or name another with --brokers; "
    elif dev is not None:
        fix = f"This command needs Kafka and Redis: it does not work through `anabranch dev` ({dev.url}). "
        raise ServerUnavailable("Kafka", settings.brokers, reason, fix + "Name servers with --brokers")
    else:
        reason += ", and no `anabranch dev` of this user is running"
        fix = "Name servers with --brokers, or a gateway with --url; "
    fix += "`anabranch dev` keeps a system running here, and `anabranch run FILE --embedded` needs none"
    raise ServerUnavailable("Kafka", settings.brokers, reason, fix)


def mute_kafka_client() -> None:
    """Keep the library's own lines out of a command's words; what is wrong is raised, and said once."""
    from anabranch.runtime.process.logs import KAFKA_LOGGER

    KAFKA_LOGGER.addHandler(logging.NullHandler())
    KAFKA_LOGGER.propagate = False
