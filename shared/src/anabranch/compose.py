"""Composition root: the only place that builds services, for every way to start them.

`anabranch gateway`, `python -m anabranch_gateway`, `anabranch dev`, `run --embedded`, tests and the simulator all
get a service from here, so each of them runs the same one. A service is imported when it is built: a process that
runs one service needs the libraries of that service only.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from anabranch.runtime.process.extras import needs_extra
from anabranch.runtime.process.lifecycle import Service, run_from_environment, run_service
from anabranch.runtime.process.resources import Resources
from anabranch.sdk.agents import Registry
from anabranch.sdk.programs.registration import add_programs

if TYPE_CHECKING:
    from anabranch.adapters.sql.database import Database
    from anabranch.ports import RunIndex
    from anabranch.ports.history import HistoryStore
    from anabranch.registry.transaction import Transactions
    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.client import Client
    from anabranch_agency.service import AgencyService
    from anabranch_eventmanager.service import EventManager
    from anabranch_gateway.service import GatewayService
    from anabranch_taskgroup.service import TaskGroupService
    from anabranch_taskgroup.worker.executors.programs.engines import OpenEngine

ServiceName = Literal["agency", "taskgroup", "eventmanager", "gateway"]
SERVICES: tuple[ServiceName, ...] = get_args(ServiceName)

EVENTMANAGER_NICENESS = 5
"""No result waits for the event manager: on a shared machine it yields the processor to the other services."""


def registry_of(settings: Settings) -> Registry:
    """The built-in agents, and those of the modules and files that the settings name.

    Raises:
        Misconfigured: a module cannot be imported, has no agent, or one whose name is taken; or a file is invalid.
    """
    registry = Registry.builtin()
    for module in settings.agents:
        registry.load(module)
    return add_programs(registry, settings)


def agency(resources: Resources, agents: Collection[str] | None = None) -> AgencyService:
    """The Agency on any adapters.

    Args:
        agents: names of the agents that a request may use. If None, those of the settings; if the settings name no
            module, the names are not checked, because workers may have agents that this process does not know.
    """
    from anabranch_agency.service import AgencyService

    if agents is None and (resources.settings.agents or resources.settings.agent_files):
        agents = registry_of(resources.settings).choices
    return AgencyService(resources, agents)


def taskgroup(
    resources: Resources, registry: Registry | None = None, open_engine: OpenEngine | None = None
) -> TaskGroupService:
    """The TaskGroup service on any adapters, with the agents of `registry`, else those of the settings.

    Args:
        open_engine: opens the engines of programs; None: the real ones.
    """
    from anabranch_taskgroup.service import TaskGroupService

    registry = registry if registry is not None else registry_of(resources.settings)
    return TaskGroupService(resources, registry, open_engine)


def eventmanager(resources: Resources) -> EventManager:
    """The event manager on Kafka: Faust reads the events. It writes the history if a database is configured.

    Raises:
        Misconfigured: Faust is not installed, or does not support one of the Kafka properties.
    """
    _import_eventmanager()
    from anabranch_eventmanager.app import build

    return build(resources, _history(resources))


def _history(resources: Resources) -> HistoryStore | None:
    """The history in the database of the process or of the settings; None if there is none."""
    url = resources.settings.database_url
    if resources.database is None and url is None:
        return None
    with needs_extra("history", "the history"):
        from anabranch.adapters.sql import database as databases
        from anabranch.adapters.sql.history_store import SqlHistoryStore
    if resources.database is not None:
        return SqlHistoryStore(resources.database, is_shared=True)
    return SqlHistoryStore(databases.Database.open(str(url)))


def run_search(settings: Settings, database: Database | None = None) -> RunIndex | None:
    """The search of the history; None without a database. Connections of its own end with the process.

    Raises:
        Misconfigured: the libraries for it are not installed, or the URL names no database.
    """
    url = settings.database_url
    if database is None and url is None:
        return None
    with needs_extra("history", "the history"):
        from anabranch.adapters.sql import database as databases
        from anabranch.adapters.sql.run_search import SqlRunSearch
    return SqlRunSearch(database or databases.Database.open(str(url)), settings.names.events)


def _import_eventmanager() -> None:
    with needs_extra("eventmanager", "the event manager"):
        importlib.import_module("anabranch_eventmanager.drivers.faust_driver")


def embedded_eventmanager(resources: Resources) -> EventManager:
    """The event manager on any log: a plain loop reads the events. Call it on the running event loop. It writes
    the history if the process has a database."""
    from anabranch_eventmanager.app import build_embedded

    return build_embedded(resources, None if resources.database is None else _history(resources))


def gateway(
    resources: Resources,
    agents: Collection[str] | None = None,
    announce: Callable[[str], None] | None = None,
) -> GatewayService:
    """The gateway on any adapters, able to explain open runs.

    Args:
        agents: names of the agents that a request may use; None if they are not known.
        announce: called with the URL once it is served; by default the URL is written to standard error.

    Raises:
        Misconfigured: its libraries are not installed, the file of keys cannot be read, or it would be reachable
            from other machines without authentication.
    """
    _import_gateway()
    from anabranch_gateway.app import build

    limits = partial(_list_limits, resources.settings)
    return build(
        resources,
        agents,
        partial(_explain, resources.settings),
        announce,
        list_limits=limits,
        history=run_search(resources.settings, resources.database),
        tasks=_tasks(resources),
    )


def _tasks(resources: Resources) -> Transactions | None:
    """The registry of tasks in the database of the process or of the settings; None if there is none."""
    database, url = resources.database, resources.settings.database_url
    if database is None and url is not None:
        with needs_extra("history", "the registry of tasks"):
            from anabranch.adapters.sql import database as databases
        database = databases.Database.open(url)
    if database is None:
        return None
    from anabranch.registry.transaction import Transactions

    return Transactions(database, resources.clock, resources.ids)


def _import_gateway() -> None:
    with needs_extra("gateway", "the gateway"):
        importlib.import_module("anabranch_gateway.app")


async def _explain(settings: Settings, client: Client, run: str, heal: bool) -> dict[str, Any]:
    """Why a run does not end. The decisions of other services answer that, which the gateway must not import."""
    from anabranch.operations.why.answer import explain

    return await explain(client, settings, run, heal=heal)


async def _list_limits(settings: Settings, client: Client) -> list[dict[str, Any]]:
    """The limits that runs share. Their owners are of another service, as for `_explain`."""
    from anabranch.operations.limits import listed

    return await listed(client, settings)


_IMPORTS: dict[ServiceName, Callable[[], None]] = {
    "eventmanager": _import_eventmanager,
    "gateway": _import_gateway,
}
_BUILDERS: dict[ServiceName, Callable[[Resources], Service]] = {
    "agency": agency,
    "taskgroup": taskgroup,
    "eventmanager": eventmanager,
    "gateway": gateway,
}


def serve(name: ServiceName, settings: Settings) -> int:
    """Run one service in this process until SIGTERM or SIGINT; returns the exit code of the process.

    Raises:
        Misconfigured: the libraries of the service are not installed.
    """
    if name in _IMPORTS:
        _IMPORTS[name]()  # before connecting, so that a missing extra is reported without waiting for the servers
    if name == "eventmanager" and hasattr(os, "nice"):
        os.nice(EVENTMANAGER_NICENESS)
    return run_service(_BUILDERS[name], settings, service=f"anabranch-{name}", serves_metrics=name == "gateway")


def main(name: ServiceName) -> int:
    """`python -m anabranch_<name>`: run a service as the environment says; returns the exit code."""
    return run_from_environment(partial(serve, name))
