"""Opens the client of a command: on the configured servers, or on an embedded system in this process."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anabranch.cli.backends.address_file import address_file_path, live_address
from anabranch.cli.backends.broker_probe import unreachable_reason
from anabranch.core.errors import ServerUnavailable
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.client import Client

if TYPE_CHECKING:
    from anabranch.sdk.agents import Registry

CONNECT_SECONDS = 12.0
"""Slightly more than the adapters' own timeouts, because their errors are more specific."""


@dataclass(frozen=True, slots=True)
class OpenSystem:
    """An open client, and a description of its system for people."""

    client: Client
    description: str


def load_registry(modules: Sequence[str], settings: Settings | None = None) -> Registry:
    """Load the built-in agents, those of the modules, and the programs that the settings declare.

    Raises:
        Misconfigured: a module cannot be imported, a file is invalid, or two agents have the same name.
    """
    from anabranch.sdk.agents import Registry

    registry = Registry.builtin()
    for module in modules:
        registry.load(module)
    if settings is not None and (settings.agent_files or settings.executors):
        from anabranch.sdk.programs.registration import add_programs

        add_programs(registry, settings)
    return registry


@asynccontextmanager
async def open_system(
    settings: Settings, registry: Registry | None, *, virtual_time: bool = False
) -> AsyncGenerator[OpenSystem, None]:
    """Open a client on the servers, or on an embedded system if a registry is given.

    Args:
        virtual_time: the running event loop is a `VirtualLoop`, whose time the embedded system has.

    Raises:
        ServerUnavailable: a server did not answer within CONNECT_SECONDS.
    """
    if registry is not None:
        from anabranch.embedded import embedded
        from anabranch.runtime.instrumentation.telemetry import close_telemetry, open_telemetry
        from anabranch.runtime.process.logs import ATTEMPTS_LOGGER
        from anabranch.runtime.process.process_memory import tune_garbage_collector
        from anabranch.testing.leaps import virtual_system

        ATTEMPTS_LOGGER.addHandler(logging.NullHandler())  # the command prints failures itself
        telemetry = open_telemetry("anabranch", os.environ, text=False)
        telemetry.adopt()
        try:
            opened = (
                virtual_system(registry, settings, telemetry)
                if virtual_time
                else embedded(registry, settings, telemetry=telemetry)
            )
            async with opened as system:
                tune_garbage_collector()
                yield OpenSystem(system.client, system.description)
        finally:
            await close_telemetry(telemetry)
        return
    async with open_client(settings) as client:
        yield OpenSystem(client, f"Kafka {settings.brokers}, prefix {settings.prefix}")


@asynccontextmanager
async def open_client(settings: Settings) -> AsyncGenerator[Client, None]:
    """Open a client on the servers. Raises ServerUnavailable after at most CONNECT_SECONDS, and within two seconds
    if no broker accepts a connection."""
    await require_broker(settings)
    mute_kafka_client()
    client = Client.configured(settings)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            # Only opening has the timeout: `async with` would apply it to the whole command.
            await client.__aenter__()
    except TimeoutError as error:
        raise ServerUnavailable(
            "Kafka or Redis",
            f"{settings.brokers} and {settings.shown()['redis_url']}",
            f"no answer within {CONNECT_SECONDS:g} s",
            "start them, or pass their addresses with --brokers and --redis-url; --embedded needs no server",
        ) from error
    try:
        yield client
    finally:
        await client.__aexit__(None, None, None)


async def require_broker(settings: Settings) -> None:
    """Raise ServerUnavailable if no broker accepts a connection; the error names the ways to run without Kafka."""
    is_named = bool(settings.named & {"brokers", "redis_url"})
    dev = None if is_named else live_address(address_file_path())
    reason = await unreachable_reason(settings.brokers, patient=is_named)
    if reason is None:
        return
    # Addresses that were given are the only way meant; otherwise the error names all ways to reach a system.
    if is_named:
        fix = "Start it, or pass its address with --brokers; "
    elif dev is not None:
        fix = (
            f"This command needs Kafka and Redis, not `anabranch dev` ({dev.url}). "
            "Pass their addresses with --brokers"
        )
        raise ServerUnavailable("Kafka", settings.brokers, reason, fix)
    else:
        reason += ", and no `anabranch dev` of this user is running"
        fix = "Pass addresses of servers with --brokers, or of a gateway with --url; "
    fix += "`anabranch dev` starts a local system, and `anabranch run FILE --embedded` needs no server"
    raise ServerUnavailable("Kafka", settings.brokers, reason, fix)


def mute_kafka_client() -> None:
    """Silence the log of the Kafka client. Its problems are raised as errors, which the command prints once."""
    from anabranch.runtime.process.logs import KAFKA_LOGGER

    KAFKA_LOGGER.addHandler(logging.NullHandler())
    KAFKA_LOGGER.propagate = False
