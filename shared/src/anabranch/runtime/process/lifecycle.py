"""The life of a service's process: connect, check, start, say so, wait for a signal, drain, stop.

The same for all services; what a service does is its own business. The exit code says how it ended: 0 asked
to stop, 1 crashed or stopped at once, 2 misconfigured, 4 a server cannot be reached.
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
from anabranch.runtime.instrumentation.instrumented import metered
from anabranch.runtime.instrumentation.telemetry import close_telemetry, import_telemetry, open_telemetry
from anabranch.runtime.process.health import Health, HealthServer
from anabranch.runtime.process.logs import set_up_logging
from anabranch.runtime.process.loops import run
from anabranch.runtime.process.process_memory import bound_arenas, collect_seldom, give_back
from anabranch.runtime.process.resources import Connect, Resources, connect
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.streams import lasting_streams, standard_error
from anabranch.runtime.process.topics import check_retention, ensure_topics

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_MISCONFIGURED = 2
EXIT_UNAVAILABLE = 4

STOP_SECONDS = 10.0
FORCED_STOP_SECONDS = 1.0
WATCH_SECONDS = 1.0
GIVE_BACK_EVERY = 60
"""So many looks at the service apart, free memory is returned to the system."""

_log = logging.getLogger("anabranch.process")


class Service(Protocol):
    """What a process runs. Called in the order `start`, `drain`, `stop`; `health` at any time."""

    @property
    def name(self) -> str:
        """Shown in logs and probes: `agency`."""

    async def start(self) -> None:
        """Returns when the service is ready for work. Background tasks belong to `Resources.supervisor`."""

    async def drain(self) -> None:
        """Take no new work and finish what is at hand. Cancelled when the time for it is over."""

    async def stop(self) -> None:
        """Release everything, also after a `start` that failed or was cancelled half-way."""

    def health(self) -> Health:
        """Must not block. What is not live is stopped with exit code 1."""


class Crashed(Exception):
    """A part of the service has ended with an error; the cause is attached."""


Build = Callable[[Resources], Service]


def run_from_environment(serve: Callable[[Settings], int]) -> int:
    """Call `serve` with the settings of environment and file; returns the exit code of the process."""
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
        service: the `service.name` of its telemetry, unless OTEL_SERVICE_NAME says another.
        serves_metrics: whether it answers Prometheus itself, so that metrics are kept also without a health port.
    """
    set_up_logging(settings.log_level, settings.log_format)
    bound_arenas()
    try:
        connecting = partial(_connect, connect, service, serves_metrics)
        return run(_until_signalled(build, settings, connecting))
    except Misconfigured as error:
        return _ended(error, EXIT_MISCONFIGURED)
    except (ServerUnavailable, StoreRefused) as error:
        return _ended(error, EXIT_UNAVAILABLE)
    except MainTaskCancelled as error:
        return _ended(error, EXIT_FAILED)
    except Crashed:
        return EXIT_FAILED
    except Exception:  # noqa: BLE001 - the process's last resort: logged with its traceback
        _log.critical("the service ended with an error", exc_info=True)
        return EXIT_FAILED


def _ended(error: Exception, code: int) -> int:
    standard_error().write(f"anabranch: {error}\n")
    return code


class StopRequest:
    """Counts the signals: the first asks for an orderly end, the second for an end at once."""

    def __init__(self) -> None:
        self.orderly = asyncio.Event()
        self.at_once = asyncio.Event()

    def ask(self) -> None:
        """One more signal has come."""
        (self.at_once if self.orderly.is_set() else self.orderly).set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Be asked by SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        wanted = (signal.SIGTERM, signal.SIGINT)
        for each in wanted:
            loop.add_signal_handler(each, self.ask)
        try:
            yield
        finally:
            for each in wanted:
                loop.remove_signal_handler(each)


async def _until_signalled(build: Build, settings: Settings, connect: Connect) -> int:
    stop = StopRequest()
    with stop.on_signals():
        code = await serve(build, settings, connect, stop)
    if stop.at_once.is_set():
        standard_error().flush()
        os._exit(code)  # an agent's thread that does not end must not hold the process
    return code


async def _connect(connect: Connect, service: str, serves_metrics: bool, settings: Settings) -> Resources:
    """Resources with the telemetry that settings and environment ask for."""
    text = serves_metrics or settings.health_port is not None
    import_telemetry(os.environ, text=text)  # before the servers are asked, which may take long to answer
    resources = await connect(settings)
    telemetry = open_telemetry(service, os.environ, text=text, instance=resources.ids.incarnation())
    return metered(resources, telemetry)


async def serve(build: Build, settings: Settings, connect: Connect, stop: StopRequest) -> int:
    """Run a service until `stop` is asked; returns the exit code, or raises what the service failed with."""
    life = asyncio.create_task(_live(build, settings, connect, stop), name="service")
    if await _first(life, stop.at_once.wait()):
        return life.result()
    _log.warning("stopping at once")
    life.cancel()
    await asyncio.wait({life}, timeout=FORCED_STOP_SECONDS)
    return EXIT_FAILED


async def _live(build: Build, settings: Settings, connect: Connect, stop: StopRequest) -> int:
    connecting = asyncio.ensure_future(connect(settings))
    if not await _first(connecting, stop.orderly.wait()):
        await _cancelled(connecting)
        return EXIT_OK
    async with AsyncExitStack() as stack:
        resources = connecting.result()
        stack.push_async_callback(close_telemetry, resources.telemetry)
        stack.push_async_callback(resources.close)
        await resources.store.check()
        created = await ensure_topics(resources.log, settings)
        if created:
            _log.info("created the topics %s", ", ".join(created))
        await check_retention(resources.log, settings)
        service = build(resources)
        resources.telemetry.adopt()
        stack.push_async_callback(_stop, service)
        port = await _serve_health(service, resources, stack)
        await _work(service, resources, stop, port)
    return EXIT_OK


async def _work(service: Service, resources: Resources, stop: StopRequest, port: int | None) -> None:
    if not await _unless_stopped(service.start(), resources, stop):
        return
    collect_seldom()
    _say_ready(service, resources.settings, port)
    await _unless_stopped(_watch(service), resources, stop)
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
    """Do work until it ends (True) or a stop is asked for (False). Raises Crashed where a task crashed."""
    task = asyncio.ensure_future(work)
    crash = asyncio.create_task(resources.supervisor.crashed(), name="crash watch")
    try:
        ended = await _first(task, stop.orderly.wait(), crash)
        if crash.done():
            raise Crashed from crash.result()
        if ended:
            task.result()
        return ended
    finally:
        await _cancelled(task, crash)


async def _watch(service: Service) -> None:
    looks = 0
    while service.health().live:
        await asyncio.sleep(WATCH_SECONDS)
        looks += 1
        if looks % GIVE_BACK_EVERY == 0:
            await asyncio.to_thread(give_back)
    _log.critical("%s is no longer live and ends, to be restarted: %s", service.name, service.health().detail)
    raise Crashed


async def _serve_health(service: Service, resources: Resources, stack: AsyncExitStack) -> int | None:
    settings = resources.settings
    if settings.health_port is None:
        return None
    server = HealthServer(service.health, service.name, metrics=resources.telemetry.exposition)
    try:
        port = await server.start(settings.health_port)
    except OSError as error:
        fix = "choose another one, or 0 for any"
        raise Misconfigured("health_port", f"cannot listen on {settings.health_port}: {error}", fix) from error
    stack.push_async_callback(server.stop)
    return port


def _say_ready(service: Service, settings: Settings, port: int | None) -> None:
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


async def _first(wanted: asyncio.Future[Any], interruption: Awaitable[Any], *others: asyncio.Future[Any]) -> bool:
    """Wait until one of these has ended; True where `wanted` has. Cancels the interruption, nothing else."""
    other = asyncio.ensure_future(interruption)
    try:
        await asyncio.wait({wanted, other, *others}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancelled(other)
    return wanted.done()


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait until it has ended; errors of what was cancelled do not count."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
