"""A gateway over a complete embedded system, served on a separate port, for tests over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from anabranch import compose
from anabranch.embedded import Embedded, embedded
from anabranch.ports import Telemetry
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.supervision import Supervisor
from anabranch.sdk.agents import Registry
from anabranch_gateway.service import GatewayService

HELLO: dict[str, Any] = {
    "name": "hello",
    "labels": {"team": "blue"},
    "context": {"people": ["Ada", "Grace"]},
    "task_groups": [
        {
            "name": "g",
            "tasks": [
                {
                    "name": "greet",
                    "agent": "echo",
                    "result_keys": ["greetings"],
                    "message_template": "Hello {person}",
                    "dependencies": ["people"],
                    "expansion_config": {"type": "array", "array_mapping": {"person": "people"}},
                },
                {
                    "name": "letter",
                    "agent": "echo",
                    "result_keys": ["letter"],
                    "inputs": {"lines": "{greetings}"},
                    "dependencies": ["greetings"],
                },
            ],
        }
    ],
}


def one_task(agent: str = "echo", **fields: Any) -> dict[str, Any]:
    """A request with one task."""
    task = {"name": "t", "agent": agent, "result_keys": ["k"], **fields}
    return {"task_groups": [{"name": "g", "tasks": [task]}]}


@dataclass(frozen=True, slots=True)
class Running:
    """The system, its gateway, and an HTTP client of the gateway."""

    system: Embedded
    service: GatewayService
    http: httpx.AsyncClient

    async def submit(self, request: dict[str, Any], wait: int | None = 20, **headers: str) -> httpx.Response:
        """Submit a request, and wait for its end unless `wait` is None."""
        prefer = {} if wait is None else {"prefer": f"wait={wait}"}
        return await self.http.post("/v1/runs", json=request, headers={**prefer, **headers})

    async def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of a GET that has to succeed."""
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


@asynccontextmanager
async def gateway(
    settings: Settings | None = None,
    registry: Registry | None = None,
    token: str | None = None,
    telemetry: Telemetry = NO_TELEMETRY,
    agents: Collection[str] | None = None,
    database_url: str | None = None,
) -> AsyncIterator[Running]:
    """A system with a gateway on any free port. The client sends `token` with each request. `agents` are the names
    that the gateway knows, if they differ from the registry's."""
    settings = settings or Settings()
    agents = (registry or Registry.builtin()).names if agents is None else agents
    async with (
        embedded(registry, settings, store="memory", database_url=database_url) as system,
        serving(system, settings, agents, telemetry) as service,
    ):
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=30) as http:
            yield Running(system, service, http)


@asynccontextmanager
async def serving(
    system: Embedded, settings: Settings, agents: Collection[str], telemetry: Telemetry = NO_TELEMETRY
) -> AsyncIterator[GatewayService]:
    """A gateway over a system, which keeps running afterwards."""
    links, supervisor = system.client.links, Supervisor()
    resources = Resources(
        settings,
        links.names,
        links.log,
        links.store,
        links.notifier,
        links.clock,
        links.ids,
        supervisor,
        telemetry=telemetry,
        database=system.database,
    )
    service = compose.gateway(resources, agents, announce=lambda _: None)
    try:
        await service.start()
        yield service
    finally:
        await service.stop()
        await supervisor.close()


async def sse(response: httpx.Response) -> AsyncGenerator[tuple[str | None, str, Any], None]:
    """Parse id, type and data of each Server-Sent Event of a streamed response."""
    event_id, kind = None, "message"
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            event_id = value
        elif name == "event":
            kind = value
        elif name == "data":
            yield event_id, kind, json.loads(value)
