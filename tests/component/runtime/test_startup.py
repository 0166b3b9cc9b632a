"""A process that starts before its servers or topics: alive, unready with the reason, and then ready by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from memory_resources import memory_resources
from waiting import eventually

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.compose import agency, embedded_eventmanager, taskgroup
from anabranch.core.errors import AnabranchError, Misconfigured, ServerUnavailable
from anabranch.core.names import Names
from anabranch.ports import Clock
from anabranch.runtime.process import startup
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.health import Health
from anabranch.runtime.process.lifecycle import Build, StopRequest, serve
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.startup import Startup
from anabranch.runtime.process.topics import ensure_topics

AWAY = ServerUnavailable("Kafka", "localhost:9092", "connection refused")


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(startup, "MAX_RETRY_SECONDS", 0.002)


class Servers:
    """Servers in memory that fail with `error` while it is set."""

    def __init__(self, error: AnabranchError | None = None) -> None:
        self.error = error
        self.attempts = 0
        self.broker = MemoryBroker()
        self.opened: list[Resources] = []

    async def connect(self, settings: Settings) -> Resources:
        self.attempts += 1
        if self.error is not None:
            raise self.error
        clock: Clock = SystemClock()
        resources = memory_resources(Names(), clock, MemoryLog(self.broker, clock))
        self.opened.append(replace(resources, settings=settings))
        return self.opened[-1]


class Starting:
    """A service whose start fails with `error` while it is set. It records its calls."""

    name = "recorder"

    def __init__(self, error: AnabranchError | None = None) -> None:
        self.error = error
        self.calls: list[str] = []
        self.draining = asyncio.Event()
        self.drained = asyncio.Event()

    def build(self, resources: Resources) -> Starting:
        return self

    async def start(self) -> None:
        self.calls.append("start")
        if self.error is not None:
            raise self.error

    async def drain(self) -> None:
        self.draining.set()
        await self.drained.wait()

    async def stop(self) -> None:
        self.calls.append("stop")

    def health(self) -> Health:
        return Health(live=True, ready=True, detail="recording")


@asynccontextmanager
async def _process(
    monkeypatch: pytest.MonkeyPatch, servers: Servers, build: Build, settings: Settings | None = None
) -> AsyncIterator[tuple[Callable[[], Health], StopRequest, asyncio.Task[int]]]:
    """A process; yields its health, and what stops it."""
    made: list[Startup] = []

    def begin(name: str) -> Startup:
        made.append(Startup(name))
        return made[0]

    monkeypatch.setattr("anabranch.runtime.process.lifecycle.Startup", begin)
    stop = StopRequest()
    running = asyncio.create_task(serve(build, settings or Settings(), servers.connect, stop, "agency"))
    await eventually(lambda: bool(made))
    try:
        yield lambda: made[0].health(), stop, running
    finally:
        stop.count()
        await asyncio.wait({running})


@pytest.mark.parametrize("build", [agency, taskgroup, embedded_eventmanager])
async def test_a_server_that_is_away_at_the_start_is_waited_for(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    servers = Servers(AWAY)
    with caplog.at_level(logging.WARNING):
        async with _process(monkeypatch, servers, build) as (health, stop, running):
            await eventually(lambda: servers.attempts > 2)
            assert health() == Health(live=True, ready=False, detail=f"waiting to start: {AWAY}")

            servers.error = None

            await eventually(lambda: health().ready)
            stop.count()
            assert await running == 0
    assert "cannot start agency, retrying in 0.001 s: Kafka cannot be reached at localhost:9092" in caplog.text


async def test_a_server_that_is_lost_during_the_start_is_connected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    servers, service = Servers(), Starting(AWAY)
    async with _process(monkeypatch, servers, service.build) as (health, _, _):
        await eventually(lambda: len(servers.opened) > 2)
        service.error = None
        await eventually(lambda: health().ready)

        assert service.calls.count("start") == service.calls.count("stop") + 1, "each failed start is stopped"
        with pytest.raises(ServerUnavailable):
            await servers.opened[0].log.partition_count("anabranch.runs")
        service.drained.set()


async def test_topics_that_are_missing_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    servers, service = Servers(), Starting()
    service.drained.set()
    settings = Settings(create_topics=False)
    async with _process(monkeypatch, servers, service.build, settings) as (health, _, _):
        await eventually(lambda: len(servers.opened) > 1)
        assert health().live
        assert not health().ready
        assert "anabranch.requests" in health().detail
        assert "run `anabranch topics create`" in health().detail

        await ensure_topics((await servers.connect(settings)).log, Settings())

        await eventually(lambda: health().ready)
        assert service.calls == ["start"]


@pytest.mark.parametrize("error", [Misconfigured("ANABRANCH_REDIS_URL", "is no URL"), LookupError("a bug")])
async def test_what_no_wait_corrects_ends_the_process(error: Exception) -> None:
    async def refuse(settings: Settings) -> Resources:
        raise error

    with pytest.raises(type(error), match=str(error)):
        await serve(agency, Settings(), refuse, StopRequest())


async def test_a_stop_while_it_waits_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = Servers(AWAY)
    async with _process(monkeypatch, servers, agency) as (_, stop, running):
        await eventually(lambda: servers.attempts > 1)
        stop.count()
        assert await running == 0


async def test_a_process_that_drains_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Starting()
    async with _process(monkeypatch, Servers(), service.build) as (health, stop, running):
        await eventually(lambda: health().ready)
        stop.count()
        await service.draining.wait()

        assert health() == Health(live=True, ready=False, detail="stopping; recording")
        service.drained.set()
        assert await running == 0
