"""The whole system in one process, as a test holds it: start it, give it requests, move time, look.

Built on the embedded composition with its store in memory. In a plain test it has a loop of its own with
virtual time, and calls that return when the answer is there; on a running loop it takes that loop's time.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import orjson

from anabranch.core.errors import AnabranchError
from anabranch.core.names import session_key
from anabranch.core.request.models import Request
from anabranch.embedded import Embedded, embedded
from anabranch.ports import Clock, EventLog, Ids, Incoming, Telemetry, Write
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.lifecycle import Service
from anabranch.runtime.process.loops import end_what_is_left
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.reading.values import public_value
from anabranch.sdk.agents import Registry, agent
from anabranch.sdk.run import Run
from anabranch.sdk.run_result import RunResult
from anabranch.testing.loop import SeededIds, VirtualClock, VirtualLoop

T = TypeVar("T")

AnyRequest = Request | Mapping[str, Any] | str | Path
Agents = Iterable[Callable[..., Any] | ModuleType] | Mapping[str, Callable[..., Any]]
PUBLISHED_TTL = 86_400.0
POLL_SECONDS = 10.0
STOP_SECONDS = 60.0


class ServiceStopped(AnabranchError):
    """A service of the system under test has stopped with an error; the log has its traceback."""


def system(
    agents: Agents = (), seed: int = 0, telemetry: Telemetry = NO_TELEMETRY, **settings: Any
) -> SystemContext:
    """The whole system: services, log and store in this process, and nothing left behind.

        with system(agents=[summarise]) as s:
            assert s.run(request).results["summary"] == "..."

    In a `with` the system has virtual time: an agent that sleeps for an hour takes milliseconds, and time
    stands still between the calls. In an `async with` it runs on the running loop, in that loop's time.

    Args:
        agents: marked functions, classes, and modules of them; or `{name: function}`, where no mark is needed.
            The built-in agents are there too.
        seed: what the ids are made from, so that a test is the same each time.
        telemetry: what metrics and spans of the services are told to.
        settings: any setting by its name, such as `concurrency=4` or `inline_limit=1000`.

    Raises:
        TypeError: something in `agents` is no agent, or there is no such setting.
        Misconfigured: two agents have one name.
    """
    return SystemContext(registry_of(agents), Settings(**settings), seed, telemetry)


def registry_of(agents: Agents) -> Registry:
    """The built-in agents and these."""
    registry = Registry.builtin()
    if isinstance(agents, Mapping):
        agents = [_named(name, function) for name, function in agents.items()]
    for source in agents:
        registry.add(source)
    return registry


def _named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as the agent `name`, without marking the function itself."""
    if inspect.iscoroutinefunction(function):

        async def call_async(task: Any) -> Any:
            return await function(task)

        return agent(name)(call_async)

    def call(task: Any) -> Any:
        return function(task)

    return agent(name)(call)


class SystemContext:
    """What `system()` gives: enter it with `with` or `async with`. Each entering starts a system of its own."""

    def __init__(
        self, registry: Registry, settings: Settings, seed: int, telemetry: Telemetry = NO_TELEMETRY
    ) -> None:
        self._telemetry = telemetry
        self._registry = registry
        self._settings = settings
        self._seed = seed
        self._entered: list[System] = []
        self._stacks: list[AsyncExitStack] = []

    def __enter__(self) -> System:
        self._entered.append(System(self.start, self._seed))
        return self._entered[-1]

    def __exit__(self, *_: object) -> None:
        self._entered.pop().close()

    async def __aenter__(self) -> AsyncSystem:
        clock = SystemClock()
        stack = AsyncExitStack()
        running = await stack.enter_async_context(self.start(clock, SystemIds(clock)))
        self._stacks.append(stack)
        return AsyncSystem(running)

    async def __aexit__(self, *_: object) -> None:
        await self._stacks.pop().aclose()

    def start(self, clock: Clock, ids: Ids) -> AbstractAsyncContextManager[Embedded]:
        """The embedded system, not entered yet."""
        return embedded(
            self._registry, self._settings, store="memory", clock=clock, ids=ids, telemetry=self._telemetry
        )


class AsyncSystem:
    """A system on the running loop.

    Attributes:
        client: an open `Client`, for all that is not here.
        embedded: the parts: log, store, notifier, names, services.
    """

    def __init__(self, running: Embedded) -> None:
        self.embedded = running
        self.client = running.client

    async def run(self, request: AnyRequest, *, timeout: float | None = None, check: bool = False) -> RunResult:
        """Submit a request and wait for its end. See `Run.result` for `timeout` (seconds) and `check`.

        Raises:
            RequestRefused: with every error; nothing was sent.
            TimeoutError: the run has not ended within `timeout`.
        """
        run = await self.submit(request)
        return await run.result(timeout, check=check)

    async def submit(self, request: AnyRequest) -> Run:
        """Submit a request. Raises RequestRefused where it is wrong."""
        return await self.client.submit(request)

    async def publish(self, session_id: str, key: str, value: Any) -> None:
        """Do what an outside publisher does: SET a value of the session, then PUBLISH that it is there."""
        parts = self.embedded
        name = session_key(session_id, key)
        data = orjson.dumps(value)
        await parts.store.put([Write(name, data, PUBLISHED_TTL)])
        await parts.notifier.publish([(name, data)])

    async def value(self, session_id: str, key: str) -> Any:
        """What stands in the session under a key, a reference resolved; None where nothing does."""
        parts = self.embedded
        return await public_value(parts.store, parts.names, session_id, key)

    async def records(self, topic: str) -> list[Incoming]:
        """What is on a topic by now, partition after partition; `topic` without its prefix, `groups`."""
        log = self.embedded.log
        name = f"{self.embedded.names.prefix}{topic}"
        found: list[Incoming] = []
        for partition in range(await log.partition_count(name)):
            found += await _records_of(log, name, partition)
        return found


async def _records_of(log: EventLog, topic: str, partition: int) -> list[Incoming]:
    found: list[Incoming] = []
    async with log.read(topic, [partition], "latest") as reader:
        end = (await reader.end_offsets())[partition]
    if end == 0:
        return found
    async with log.read(topic, [partition], "earliest") as reader:
        async for batch in reader:
            found += batch
            if found[-1].offset >= end - 1:
                break
    return found


class System:
    """A system with virtual time, on a loop of its own. Every call lets the loop run until the answer is there;
    between the calls nothing moves. Not thread-safe.

    Attributes:
        embedded: the parts: log, store, notifier, names, services. Use them through `wait`.

    Raises:
        RuntimeError: a loop is running in this thread: use `async with system(...)` there.
    """

    def __init__(self, start: Callable[[Clock, Ids], AbstractAsyncContextManager[Embedded]], seed: int) -> None:
        _refuse_a_running_loop()
        self._loop = VirtualLoop()
        self._stack = AsyncExitStack()
        self._services: tuple[Service, ...] = ()
        clock = VirtualClock(self._loop)
        try:
            running = self.wait(self._stack.enter_async_context(start(clock, SeededIds(clock, seed))))
        except BaseException:
            self._close_loop()
            raise
        self._system = AsyncSystem(running)
        self.embedded = running
        self._services = running.services

    def run(self, request: AnyRequest, *, timeout: float | None = None, check: bool = False) -> RunResult:
        """Submit a request and wait for its end.

        Args:
            timeout: virtual seconds to wait; the run itself goes on after it.
            check: raise unless the run completed.

        Raises:
            RequestRefused: the request is wrong; with every error.
            TimeoutError: the run has not ended within `timeout`.
            RunFailed, RunCancelled, RunTimedOut: with `check`, how it ended.
        """
        return self.submit(request).result(timeout, check=check)

    def submit(self, request: AnyRequest) -> SystemRun:
        """Submit a request; it runs whenever time is given: in `result`, `advance` and any other call.

        Raises:
            RequestRefused: the request is wrong; with every error.
        """
        return SystemRun(self, self.wait(self._system.submit(request)))

    def retry(self, run: SystemRun, *, request_id: str | None = None) -> SystemRun:
        """Retry a run that did not complete; see `Client.retry`."""
        client = self.embedded.client
        return SystemRun(self, self.wait(client.retry(run.run_id, request_id=request_id)))

    def advance(self, seconds: float) -> None:
        """Let virtual time pass, and all that happens in it. Threads of `def` agents are not waited for."""
        self._loop.force_until(self._loop.time() + seconds)
        self.wait(asyncio.sleep(seconds))

    def publish(self, session_id: str, key: str, value: Any) -> None:
        """Do what an outside publisher does: SET a value of the session, then PUBLISH that it is there."""
        self.wait(self._system.publish(session_id, key, value))

    def value(self, session_id: str, key: str) -> Any:
        """What stands in the session under a key, a reference resolved; None where nothing does."""
        return self.wait(self._system.value(session_id, key))

    def records(self, topic: str) -> list[Incoming]:
        """What is on a topic by now, partition after partition; `topic` without its prefix, `groups`."""
        return self.wait(self._system.records(topic))

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the start."""
        return self._loop.time()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the system's loop to its end.

        Raises:
            ServiceStopped: a service of the system broke, so that the answer might never come.
        """
        result: T = self._loop.run_until_complete(self._unless_stopped(work))
        return result

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.wait({task}, timeout=POLL_SECONDS)
            stopped = [service for service in self._services if not service.health().live]
            if stopped and not task.done():
                task.cancel()
                await asyncio.wait({task})
                raise ServiceStopped(f"{stopped[0].name} {stopped[0].health().detail}")
        return task.result()

    def close(self) -> None:
        """Stop the services in good order and close the loop. Agents that still run are cancelled."""
        self._services = ()
        self._loop.force_until(self._loop.time() + STOP_SECONDS)
        try:
            self.wait(_within(STOP_SECONDS, self._stack.aclose()))
        finally:
            self._close_loop()

    def _close_loop(self) -> None:
        self._loop.run_until_complete(end_what_is_left())
        self._loop.close()


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(seconds):
        return await work


def _refuse_a_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("a loop is running here: use `async with system(...)`, and await its calls")


class SystemRun:
    """A run in a `System`. `run_id`, `request_id` and `session_id` are those of the `Run`."""

    def __init__(self, system: System, run: Run) -> None:
        self._system = system
        self._run = run
        self.run_id = run.run_id
        self.request_id = run.request_id
        self.session_id = run.session_id

    def result(self, timeout: float | None = None, *, check: bool = False) -> RunResult:
        """Wait for its end; see `Run.result`. `timeout` is in virtual seconds."""
        return self._system.wait(self._run.result(timeout, check=check))

    def events(self) -> list[dict[str, Any]]:
        """Its lifecycle events so far, one by one and in order."""
        return self._system.wait(_gathered(self._run))

    def cancel(self) -> None:
        """Ask for it to be cancelled; `result` waits until it is."""
        self._system.wait(self._run.cancel())

    def pause(self) -> None:
        """Ask that no further members start."""
        self._system.wait(self._run.pause())

    def resume(self) -> None:
        """Go on after `pause`."""
        self._system.wait(self._run.resume())

    def redrive(
        self, group: str | None = None, task: str | None = None, indexes: Sequence[int] | None = None
    ) -> None:
        """Let failed members that are held run again; see `Run.redrive`."""
        self._system.wait(self._run.redrive(group, task, indexes))

    def dismiss(
        self, group: str | None = None, task: str | None = None, indexes: Sequence[int] | None = None
    ) -> None:
        """Let failed members that are held count as failed; see `Run.redrive`."""
        self._system.wait(self._run.dismiss(group, task, indexes))


async def _gathered(run: Run) -> list[dict[str, Any]]:
    return [event async for event in run.events(until_now=True)]
