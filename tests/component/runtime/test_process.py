"""The life cycle of a service's process: ready, drained, stopped, crashed; each with its exit code."""

from __future__ import annotations

import asyncio
import io
import logging
import runpy
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.notifier import MemoryNotifier
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.compose import agency as build_agency
from anabranch.compose import taskgroup as build_taskgroup
from anabranch.core.errors import Misconfigured, StoreRefused
from anabranch.ports import Outgoing
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.health import Health
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.lifecycle import Crashed, Service, StopRequest, run_service, serve
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.streams import lasting_streams
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.process.topics import ensure_topics

SETTINGS = Settings(health_port=0, drain_seconds=0.05)


async def _connect(settings: Settings) -> Resources:
    clock = SystemClock()
    server = MemoryServer(clock)
    return Resources(
        settings,
        settings.names,
        MemoryLog(MemoryBroker(), clock),
        MemoryStore(server),
        MemoryNotifier(server),
        clock,
        SystemIds(clock),
        Supervisor(),
    )


class Recorder:
    """A service that records calls of its methods; tests replace some of them."""

    name = "recorder"

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.calls: list[str] = []
        self.started = asyncio.Event()
        self.live = True
        self.endless: set[str] = set()

    async def _do(self, what: str) -> None:
        self.calls.append(what)
        if what in self.endless:
            await asyncio.Event().wait()

    async def start(self) -> None:
        await self._do("start")
        self.started.set()

    async def drain(self) -> None:
        await self._do("drain")

    async def stop(self) -> None:
        await self._do("stop")

    def health(self) -> Health:
        return Health(live=self.live, ready=self.started.is_set(), detail="recording")


async def _serving(
    stop: StopRequest, settings: Settings = SETTINGS
) -> tuple[asyncio.Task[int], asyncio.Future[Recorder]]:
    built: asyncio.Future[Recorder] = asyncio.get_running_loop().create_future()

    def build(resources: Resources) -> Recorder:
        built.set_result(Recorder(resources))
        return built.result()

    return asyncio.create_task(serve(build, settings, _connect, stop)), built


async def test_a_service_is_drained_and_stopped_when_asked(capfd: pytest.CaptureFixture[str]) -> None:
    stop = StopRequest()
    running, built = await _serving(stop)
    service = await built
    await service.started.wait()

    stop.count()

    assert await running == 0
    assert service.calls == ["start", "drain", "stop"]
    assert "anabranch recorder ready: Kafka localhost:9092" in capfd.readouterr().err


async def test_topics_are_created_before_the_service_starts() -> None:
    stop = StopRequest()
    running, built = await _serving(stop)
    service = await built

    assert await service.resources.log.partition_count("anabranch.tasks") == 24
    stop.count()
    await running


async def test_a_drain_that_takes_too_long_is_cut_off() -> None:
    stop = StopRequest()
    running, built = await _serving(stop)
    service = await built
    service.endless = {"drain"}
    await service.started.wait()

    stop.count()

    assert await running == 0
    assert service.calls == ["start", "drain", "stop"]


async def test_a_second_request_stops_at_once() -> None:
    stop = StopRequest()
    running, built = await _serving(stop, Settings(drain_seconds=1000))
    service = await built
    service.endless = {"drain"}
    await service.started.wait()

    stop.count()
    stop.count()

    assert await running == 1


async def test_a_request_during_the_start_ends_it() -> None:
    stop = StopRequest()
    running, built = await _serving(stop)
    service = await built
    service.endless = {"start"}

    stop.count()

    assert await running == 0
    assert service.calls[-1:] == ["stop"]
    assert "drain" not in service.calls


async def test_a_crashed_task_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    running, built = await _serving(StopRequest())
    service = await built

    async def crash() -> None:
        raise LookupError("gone")

    service.resources.supervisor.spawn(crash(), "reader")

    with caplog.at_level(logging.CRITICAL), pytest.raises(Crashed):
        await running
    assert "'reader' crashed" in caplog.text
    assert "LookupError: gone" in caplog.text
    assert service.calls[-1] == "stop"


async def test_a_service_that_is_not_live_any_more_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anabranch.runtime.process.lifecycle.WATCH_SECONDS", 0.001)
    running, built = await _serving(StopRequest())
    service = await built
    await service.started.wait()

    service.live = False

    with pytest.raises(Crashed):
        await running


@pytest.fixture
def _kept_log_handlers() -> Iterator[None]:
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers


@pytest.mark.usefixtures("_kept_log_handlers")
def test_a_service_that_is_not_live_has_exit_code_1(capfd: pytest.CaptureFixture[str]) -> None:
    def build(resources: Resources) -> Recorder:
        service = Recorder(resources)
        service.live = False
        return service

    assert run_service(build, SETTINGS, _connect) == 1
    assert "recorder is no longer live and ends, to be restarted: recording" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("build", "part"),
    [
        (build_agency, "anabranch_agency.intake.request_consumer.RequestConsumer._handle"),
        (build_taskgroup, "anabranch_taskgroup.owner.dispatch.Dispatcher.sweep"),
    ],
)
async def test_a_part_of_a_service_that_stops_ends_the_process(
    build: Callable[[Resources], Service],
    part: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # given a part that will come upon a bug
    async def fail(*_: Any) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(part, fail)
    monkeypatch.setattr("anabranch.runtime.process.lifecycle.WATCH_SECONDS", 0.001)
    monkeypatch.setattr("anabranch_taskgroup.service.SWEEP_SECONDS", 0.001)
    resources = await _connect(SETTINGS)

    async def connected(settings: Settings) -> Resources:
        return resources

    await ensure_topics(resources.log, SETTINGS)
    await resources.log.publish([Outgoing(resources.names.requests, None, b"{}")])

    with pytest.raises(Crashed):
        await serve(build, SETTINGS, connected, StopRequest())

    assert "is no longer live and ends, to be restarted: stopped: LookupError('a bug')" in caplog.text


@pytest.mark.parametrize("service", ["agency", "taskgroup", "eventmanager"])
def test_settings_that_are_wrong_have_exit_code_2(
    service: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANABRANCH_HEALTH_PORT", "none")

    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"anabranch_{service}", run_name="__main__")

    assert ended.value.code == 2
    assert "anabranch: ANABRANCH_HEALTH_PORT: 'none'" in capsys.readouterr().err


@pytest.mark.usefixtures("_kept_log_handlers")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreRefused("connect", "READONLY"), 4),
        (Misconfigured("prefix", "is odd"), 2),
        (LookupError("a bug"), 1),
    ],
)
def test_the_exit_code_says_why_a_service_did_not_start(
    error: Exception, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    async def refuse(settings: Settings) -> Resources:
        raise error

    assert run_service(Recorder, SETTINGS, refuse) == code
    assert str(error) in capfd.readouterr().err


@pytest.mark.parametrize("replaced", [None, io.StringIO()])
def test_a_service_reports_why_it_ends_even_if_an_agent_replaced_standard_error(
    replaced: io.StringIO | None, capfd: pytest.CaptureFixture[str]
) -> None:
    async def replace(settings: Settings) -> Resources:
        sys.stderr = replaced  # type: ignore[assignment]
        raise asyncio.CancelledError

    with lasting_streams():
        assert run_service(Recorder, SETTINGS, replace) == 1
    assert "code in this process cancelled the main task" in capfd.readouterr().err
