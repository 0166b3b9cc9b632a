"""The OpenAPI description: it is complete, and a running gateway keeps to it for any input."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from threading import Event, Thread
from typing import Any

import httpx
import pytest
import schemathesis
from gateways import HELLO, Running, gateway, one_task
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from waiting import eventually_true

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 6
FEW = 2
"""Examples for bodies of run requests, which take seconds to generate."""
STREAMS = ("/v1/events", "/v1/runs/{run}/events")


async def _has_tasks(running: Running) -> bool:
    return (await running.http.get("/v1/tasks")).status_code == 200


class Served:
    """A gateway in a thread of its own, with a run `known` that has completed and one, `broken`, that failed."""

    def __init__(self) -> None:
        self.url = ""
        self._ready, self._stop = Event(), asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    async def _serve(self) -> None:
        async with gateway(database_url="sqlite://") as running:
            await eventually_true(partial(_has_tasks, running))
            await running.submit({**HELLO, "request_id": "known"})
            await running.submit({**one_task("fail", inputs={"times": 9}), "request_id": "broken"})
            self.url = running.service.url.rstrip("/")
            self._ready.set()
            await self._stop.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.stop()


@pytest.fixture(scope="module")
def description(served: Served) -> Any:
    return httpx.get(f"{served.url}/openapi.json").json()


def test_every_operation_is_described_with_its_responses_and_problems(description: Any) -> None:
    incomplete = [
        f"{method} {path}"
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
        if not operation.get("description")
        or not {"401", "403", "422", "503"} <= operation["responses"].keys()
        or not any(status.startswith("2") for status in operation["responses"])
        or ("{run}" in path and "404" not in operation["responses"])
    ]

    assert description["openapi"].startswith("3.1")
    assert len(description["paths"]) > 25
    assert incomplete == []


def test_no_body_is_without_an_example(description: Any) -> None:
    without = [
        path
        for path, methods in description["paths"].items()
        for operation in methods.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        if "example" not in content
    ]

    assert without == []


@pytest.mark.parametrize("run", ["known", None])
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_gateway_keeps_to_its_description_for_any_input(
    served: Served, mode: GenerationMode, run: str | None
) -> None:
    """Schemathesis generates valid and invalid requests from the description, the same each time: for every
    operation, or for those on runs with the id of an existing one. Streams are excluded, as they do not end.
    """
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    asked = []
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path not in STREAMS and ("{run}" in operation.path) == (run is not None):
            known = {"run": run, "key": "greetings", "group": "g", "task": "greet", "index": "0"}
            names = [name for name in known if f"{{{name}}}" in operation.path]
            _ask(operation, mode, {name: known[name] for name in names} or None)
            asked.append(operation.path)

    assert len(asked) > 8


def _ask(operation: Any, mode: GenerationMode, path_parameters: Any) -> None:
    """Send generated requests of one operation, and check each response."""

    @given(case=operation.as_strategy(mode, path_parameters=path_parameters))
    @settings(
        max_examples=FEW if operation.path in ("/v1/runs", "/v1/plan") else EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def ask(case: Any) -> None:
        case.validate_response(case.call(), checks=CHECKS)

    with suppress(Unsatisfiable):  # nothing wrong can be made up where anything is right
        ask()
