"""Life cycle of a service's process: connect, check topics, start, report ready, wait for a signal, drain, stop.

It is the same for all services. A process waits for Kafka, Redis and topics that are missing at its start, see
`startup`. Exit codes: 0 stopped by a signal, 1 crashed or stopped at once, 2 misconfigured, 4 refused by Redis.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Any, Protocol

from anabranch.core.errors import MainTaskCancelled, Misconfigured, ServerUnavailable, StoreRefused
from anabranch.ports import Telemetry
from anabranch.runtime.instrumentation.instrumented import instrument
from anabranch.runtime.instrumentation.telemetry import close_telemetry, import_telemetry, open_telemetry
from anabranch.runtime.process.health import Health, HealthServer
from anabranch.runtime.process.logs import set_up_logging
from anabranch.runtime.process.loops import run
from anabranch.runtime.process.process_memory import limit_arenas, return_free_memory, tune_garbage_collector
from anabranch.runtime.process.resources import Connect, Resources, connect
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.startup import WAITED_FOR, Startup
from anabranch.runtime.process.streams import lasting_streams, standard_error
from anabranch.runtime.process.topics import check_retention, ensure_topics

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_MISCONFIGURED = 2
EXIT_UNAVAILABLE = 4

STOP_SECONDS = 10.0
FORCED_STOP_SECONDS = 1.0
WATCH_SECONDS = 1.0
TRIM_EVERY = 60
"""Number of health checks between two returns of free memory to the system."""

_log = logging.getLogger("anabranch.process")


class Service(Protocol):
    """A service that a process runs. Called in the order `start`, `drain`, `stop`; `health` at any time."""

    @property
    def name(self) -> str:
        """The name in logs and probes: `agency`."""

    async def start(self) -> None:
        """Start the service; returns when it is ready. Background tasks are started by `Resources.supervisor`."""

    async def drain(self) -> None:
        """Accept no new work and finish the present work. Cancelled after `drain_seconds`."""

    async def stop(self) -> None:
        """Release all resources, also after a `start` that failed or was cancelled."""

    def health(self) -> Health:
        """The current health. Must not block. If it is not live, the process ends with exit code 1."""


class Crashed(Exception):
    """A background task failed, or the service is not live. The task's error is the `__cause__`."""


Build = Callable[[Resources], Service]


def run_from_environment(serve: Callable[[Settings], int]) -> int:
    """Load the settings from environment and file, and call `serve`. Returns the exit code of the process."""
    with lasting_streams():
        try:
            settings = Settings.load()
        except Misconfigured as error:
            return _ended(error, EXIT_MISCONFIGURED)
        return serve(settings)


def run_service(
    build: Build,
    settings: Settings,
    connect: Connect = connect,
    *,
    service: str = "anabranch",
    serves_metrics: bool = False,
) -> int:
    """Run a service until SIGTERM or SIGINT; returns the exit code. A second signal stops it at once.

    Args:
        service: the `service.name` of its telemetry; OTEL_SERVICE_NAME overrides it.
        serves_metrics: True if the service has its own `/metrics`: metrics are then collected also without a
            health port.
    """
    set_up_logging(settings.log_level, settings.log_format)
    limit_arenas()
    try:
        connecting = _Connecting(connect, service, serves_metrics)
        return run(_until_signalled(build, settings, connecting, service.removeprefix("anabranch-")))
    except Misconfigured as error:
        return _ended(error, EXIT_MISCONFIGURED)
    except (ServerUnavailable, StoreRefused) as error:
        return _ended(error, EXIT_UNAVAILABLE)
    except MainTaskCancelled as error:
        return _ended(error, EXIT_FAILED)
    except Crashed:
        return EXIT_FAILED
    except Exception:  # noqa: BLE001 - the last handler of the process logs the traceback
        _log.critical("the service failed, its process ends", exc_info=True)
        return EXIT_FAILED


def _ended(error: Exception, code: int) -> int:
    standard_error().write(f"anabranch: {error}\n")
    return code


class StopRequest:
    """Counts stop signals: the first requests an orderly stop, the second an immediate one."""

    def __init__(self) -> None:
        self.orderly = asyncio.Event()
        self.at_once = asyncio.Event()

    def count(self) -> None:
        """Count one stop signal."""
        (self.at_once if self.orderly.is_set() else self.orderly).set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Count SIGTERM and SIGINT while the context is open."""
        loop = asyncio.get_running_loop()
        wanted = (signal.SIGTERM, signal.SIGINT)
        for each in wanted:
            loop.add_signal_handler(each, self.count)
        try:
            yield
        finally:
            for each in wanted:
                loop.remove_signal_handler(each)


async def _until_signalled(build: Build, settings: Settings, connect: Connect, name: str) -> int:
    stop = StopRequest()
    with stop.on_signals():
        code = await serve(build, settings, connect, stop, name)
    if stop.at_once.is_set():
        standard_error().flush()
        os._exit(code)  # skips the wait for threads: an agent's thread may never end
    return code


class _Connecting:
    """Connects, with the telemetry that settings and environment select: the same one after each attempt."""

    def __init__(self, connect: Connect, service: str, serves_metrics: bool) -> None:
        self._connect = connect
        self._service = service
        self._serves_metrics = serves_metrics
        self._telemetry: Telemetry | None = None

    async def __call__(self, settings: Settings) -> Resources:
        text = self._serves_metrics or settings.health_port is not None
        import_telemetry(os.environ, text=text)  # first: a missing extra is reported before slow connections
        resources = await self._connect(settings)
        if self._telemetry is None:
            instance = resources.ids.incarnation()
            self._telemetry = open_telemetry(self._service, os.environ, text=text, instance=instance)
        return instrument(resources, self._telemetry)


async def serve(
    build: Build, settings: Settings, connect: Connect, stop: StopRequest, name: str = "the service"
) -> int:
    """Run a service until `stop` is requested; returns the exit code, or raises the error of the service.

    Args:
        name: the name in logs and probes before the service is built.
    """
    running = asyncio.create_task(_run_to_end(build, settings, connect, stop, Startup(name)), name="service")
    if await _wait_for(running, stop.at_once.wait()):
        return running.result()
    _log.warning("second signal: the service stops at once, its unfinished work is delivered again")
    running.cancel()
    # Not awaited further: code of an agent may catch the cancellation.
    await asyncio.wait({running}, timeout=FORCED_STOP_SECONDS)
    return EXIT_FAILED


async def _run_to_end(
    build: Build, settings: Settings, connect: Connect, stop: StopRequest, startup: Startup
) -> int:
    async with AsyncExitStack() as stack:
        # Callbacks run in reverse order: the service stops, then connections close, then the telemetry of all this
        # is exported, and the health port closes last.
        port = await _serve_health(startup, settings, stack)
        stack.push_async_callback(lambda: close_telemetry(startup.telemetry))
        attempt = partial(_start, build, settings, connect, startup, stop)
        starting = asyncio.ensure_future(startup.until_started(attempt))
        if not await _wait_for(starting, stop.orderly.wait()):
            startup.drain()
            # A service that is built sees the stop itself: if its start has just ended, it is drained.
            await (asyncio.wait({starting}) if startup.has_service else _cancelled(starting))
        if (started := _result_of(starting, stop)) is None:
            return EXIT_OK
        service, resources, closing = started
        await stack.enter_async_context(closing)
        await _work(service, resources, stop, startup, port)
    return EXIT_OK


_Started = tuple[Service, Resources, AsyncExitStack]
"""A service that has started, its resources, and what stops the one and closes the others."""


def _result_of(starting: asyncio.Future[_Started | None], stop: StopRequest) -> _Started | None:
    """What has started; None if the process was stopped before. Raises the error of the start."""
    if stop.orderly.is_set() and (starting.cancelled() or isinstance(starting.exception(), WAITED_FOR)):
        return None
    return starting.result()


async def _start(
    build: Build, settings: Settings, connect: Connect, startup: Startup, stop: StopRequest
) -> _Started | None:
    """Connect, and build and start the service; None if a stop was requested meanwhile. A start that fails closes
    everything."""
    async with AsyncExitStack() as stack:
        resources = await connect(settings)
        stack.push_async_callback(resources.close)
        await resources.store.check()
        created = await ensure_topics(resources.log, settings)
        if created:
            _log.info("created the topics %s", ", ".join(created))
        await check_retention(resources.log, settings)
        service = build(resources)
        stack.push_async_callback(_stop, service)
        startup.built(service, resources)
        stack.callback(startup.discard)
        if not await _unless_stopped(service.start(), resources, stop):
            return None
        return service, resources, stack.pop_all()


async def _work(
    service: Service, resources: Resources, stop: StopRequest, startup: Startup, port: int | None
) -> None:
    # After the start, because it exempts all present objects, such as imported modules, from collection.
    tune_garbage_collector()
    _print_ready(service, resources.settings, port)
    await _unless_stopped(_watch(service), resources, stop)
    startup.drain()
    _log.info("draining %s for up to %g s", service.name, resources.settings.drain_seconds)
    try:
        async with asyncio.timeout(resources.settings.drain_seconds):
            await service.drain()
    except TimeoutError:
        _log.warning(
            "%s was not drained within %g s and stops; its unfinished work is delivered again",
            service.name,
            resources.settings.drain_seconds,
        )


async def _unless_stopped(work: Awaitable[None], resources: Resources, stop: StopRequest) -> bool:
    """Run `work` until it ends (returns True) or a stop is requested (False). Raises Crashed if a supervised task
    fails."""
    task = asyncio.ensure_future(work)
    crash = asyncio.create_task(resources.supervisor.crashed(), name="crash watch")
    try:
        ended = await _wait_for(task, stop.orderly.wait(), crash)
        # Checked first: `work` may have ended because of the crash, and the crash is the cause.
        if crash.done():
            raise Crashed from crash.result()
        if ended:
            task.result()
        return ended
    finally:
        await _cancelled(task, crash)


async def _watch(service: Service) -> None:
    checks = 0
    while service.health().live:
        await asyncio.sleep(WATCH_SECONDS)
        checks += 1
        if checks % TRIM_EVERY == 0:
            await asyncio.to_thread(return_free_memory)
    _log.critical("%s is no longer live and ends, to be restarted: %s", service.name, service.health().detail)
    raise Crashed


async def _serve_health(startup: Startup, settings: Settings, stack: AsyncExitStack) -> int | None:
    if settings.health_port is None:
        return None
    server = HealthServer(startup.health, startup.name, metrics=startup.exposition)
    try:
        port = await server.start(settings.health_port)
    except OSError as error:
        fix = "choose another port, or 0 for any free port"
        raise Misconfigured("health_port", f"cannot listen on {settings.health_port}: {error}", fix) from error
    stack.push_async_callback(server.stop)
    return port


def _print_ready(service: Service, settings: Settings, port: int | None) -> None:
    health = "" if port is None else f", health on port {port}"
    where = f"Kafka {settings.brokers}, Redis {settings.shown()['redis_url']}, prefix {settings.prefix}"
    standard_error().write(f"anabranch {service.name} ready: {where}{health}\n")
    standard_error().flush()


async def _stop(service: Service) -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await service.stop()
    except TimeoutError:
        _log.warning("%s did not stop within %g s; the process ends without it", service.name, STOP_SECONDS)


async def _wait_for(
    wanted: asyncio.Future[Any], interruption: Awaitable[Any], *others: asyncio.Future[Any]
) -> bool:
    """Wait until one of these has ended; returns True if `wanted` has. Cancels only the interruption."""
    other = asyncio.ensure_future(interruption)
    try:
        await asyncio.wait({wanted, other, *others}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancelled(other)
    return wanted.done()


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    """Cancel running tasks and wait until they have ended, ignoring their errors."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
