"""Selects the connection of a command to a running system.

In this order: the gateway of `--url`, the servers of `--brokers`, the `anabranch dev` of this user, the servers at
their default addresses."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anabranch.cli.backends.address_file import DevAddress, address_file_path, live_address
from anabranch.cli.backends.backend import Installation
from anabranch.cli.backends.broker_probe import unreachable_reason
from anabranch.cli.backends.servers import Servers
from anabranch.cli.backends.systems import open_client, open_system
from anabranch.core.errors import Misconfigured, ServerUnavailable
from anabranch.runtime.process.extras import needs_extra

if TYPE_CHECKING:
    from anabranch.cli.backends.executions import Executions
    from anabranch.cli.backends.http_api import Api
    from anabranch.cli.backends.tasks import Tasks
    from anabranch.registry.transaction import Transactions
    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.agents import Registry
    from anabranch.sdk.client import Client

PROBE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Address:
    """A gateway's URL and API key."""

    url: str
    api_key: str | None = None


@asynccontextmanager
async def open_installation(
    settings: Settings, registry: Registry | None = None, *, virtual_time: bool = False
) -> AsyncGenerator[Installation, None]:
    """Open a connection to a running system, or an embedded system if a registry is given.

    Raises:
        ServerUnavailable: there is no running system.
    """
    if registry is not None:
        async with open_system(settings, registry, virtual_time=virtual_time) as system:
            yield Servers(system.client, settings, system.description)
    elif (address := await find_gateway(settings)) is not None:
        async with open_gateway(address) as gateway:
            yield gateway
    else:
        async with open_client(settings) as client:
            yield Servers(client, settings)


@asynccontextmanager
async def open_gateway(address: Address) -> AsyncGenerator[Installation, None]:
    """Open a connection to a system through its gateway."""
    with needs_extra("remote", "a command over a gateway's HTTP API"):
        from anabranch.cli.backends.gateway import Gateway
        from anabranch.cli.backends.http_api import open_api
    from anabranch.runtime.process.clock import SystemClock
    from anabranch.runtime.process.ids import SystemIds

    async with open_api(address.url, address.api_key) as api:
        yield Gateway(api, SystemIds(SystemClock()).run_scoped)


@asynccontextmanager
async def open_tasks(settings: Settings) -> AsyncGenerator[Tasks, None]:
    """Open the task registry of a running system: through its gateway, or in the database of the settings.

    Raises:
        ServerUnavailable: there is no running system, or its database does not respond.
        Misconfigured: no gateway is known, and the settings name no database.
    """
    async with _open_registry(settings) as (api, direct):
        from anabranch.cli.backends.tasks import DirectTasks, HttpTasks
        from anabranch.registry.service import TaskService

        if api is not None:
            yield HttpTasks(api)
        elif direct is not None:
            yield DirectTasks(TaskService(*direct, settings.max_concurrent_tasks))


@asynccontextmanager
async def open_executions(settings: Settings) -> AsyncGenerator[Executions, None]:
    """Open the executions of a running system. Raises as `open_tasks`."""
    async with _open_registry(settings) as (api, direct):
        from anabranch.cli.backends.executions import DirectExecutions, HttpExecutions
        from anabranch.registry.execution_service import ExecutionService

        if api is not None:
            yield HttpExecutions(api)
        elif direct is not None:
            transactions, client = direct
            service = ExecutionService(transactions, client.links, settings.max_concurrent_executions)
            yield DirectExecutions(service)


@asynccontextmanager
async def _open_registry(
    settings: Settings,
) -> AsyncGenerator[tuple[Api | None, tuple[Transactions, Client] | None], None]:
    """The API of a gateway; without a gateway the database of the settings, and a client."""
    if (address := await find_gateway(settings)) is not None:
        with needs_extra("remote", "a command over a gateway's HTTP API"):
            from anabranch.cli.backends.http_api import open_api
        async with open_api(address.url, address.api_key) as api:
            yield api, None
        return
    if settings.database_url is None:
        fix = "name the database with ANABRANCH_DATABASE_URL, or a gateway with --url"
        raise Misconfigured("database_url", "tasks are kept in a database, and none is named", fix)
    with needs_extra("history", "the registry of tasks"):
        from anabranch.adapters.sql.database import Database
    from anabranch.registry import transaction

    database = Database.open(settings.database_url)
    try:
        database.upgrade()
        async with open_client(settings) as client:
            yield None, (transaction.Transactions(database, client.links.clock, client.links.ids), client)
    finally:
        database.close()


async def find_gateway(settings: Settings) -> Address | None:
    """The gateway to use for a command; None to use Kafka and Redis.

    Raises:
        ServerUnavailable: an `anabranch dev` is running but does not respond, and Kafka is not reachable either.
    """
    if settings.url is not None:
        return Address(settings.url, settings.api_key)
    if settings.named & {"brokers", "redis_url"}:
        return None
    found = live_address(address_file_path())
    if found is None:
        return None
    if await _responds(found):
        return Address(found.url, settings.api_key)
    # A `dev` that hangs must not hide servers that were started since.
    if await unreachable_reason(settings.brokers) is None:
        return None
    raise ServerUnavailable(
        "`anabranch dev`",
        f"{found.url} (process {found.pid})",
        f"it does not answer within {PROBE_SECONDS:g} s: an agent may block its event loop",
        "restart `anabranch dev`, or use `anabranch run FILE --embedded`",
    )


async def _responds(found: DevAddress) -> bool:
    with needs_extra("remote", "a command beside `anabranch dev`"):
        import aiohttp  # here, because it takes 0.3 s, which a command that finds no system can save

    limits = aiohttp.ClientTimeout(total=PROBE_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=limits) as session, session.get(f"{found.url}livez") as response:
            # 503 is a gateway that runs and is not ready; any other status comes from another program on the port.
            return response.status in (200, 503)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return False
