"""A complete system for a test: start it, submit requests, advance time, inspect.

An embedded system with its store in memory. In a plain test it has its own event loop with virtual time, and
blocking calls. In an async test it runs on the running loop, in that loop's time.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import ModuleType
from typing import Any, TypeVar

from anabranch.core.errors import AnabranchError
from anabranch.embedded import Embedded, embedded
from anabranch.ports import Clock, Ids, Incoming, Telemetry
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.lifecycle import Service
from anabranch.runtime.process.loops import cancel_leftover_tasks
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.agents import Registry, agent
from anabranch.sdk.approvals import Decision
from anabranch.sdk.programs.registration import add_programs
from anabranch.sdk.run import Run
from anabranch.sdk.run_result import RunResult
from anabranch.testing.async_system import AnyRequest, AsyncSystem
from anabranch.testing.loop import SeededIds, VirtualClock, VirtualLoop

T = TypeVar("T")

Agents = Iterable[Callable[..., Any] | ModuleType] | Mapping[str, Callable[..., Any]]
POLL_SECONDS = 10.0
STOP_SECONDS = 60.0


class ServiceStopped(AnabranchError):
    """A service of the system has stopped with an error. The log has its traceback."""


def system(
    agents: Agents = (), seed: int = 0, telemetry: Telemetry = NO_TELEMETRY, **settings: Any
) -> SystemContext:
    """Create a system: all services, log and store in this process. It leaves no files.

        with system(agents=[summarise]) as s:
            assert s.run(request).results["summary"] == "..."

    In a `with`, the system has virtual time: an agent that sleeps for an hour takes milliseconds, and time stands
    still between calls. In an `async with`, it runs on the running loop, in that loop's time.

    Args:
        agents: functions and classes with `@agent`, and modules that have some; or `{name: function}` without
            `@agent`. The built-in agents are always available.
        seed: seed of generated ids, so that a test is repeatable.
        telemetry: receives metrics and spans of the services.
        settings: any setting by its name, such as `concurrency=4` or `inline_limit=1000`.

    Raises:
        TypeError: an item of `agents` is not an agent, or a setting does not exist.
        Misconfigured: two agents have the same name.
    """
    own = Settings(**settings)
    return SystemContext(add_programs(registry_of(agents), own), own, seed, telemetry)


def registry_of(agents: Agents) -> Registry:
    """A registry with the built-in agents and the given ones."""
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
    """A system that is not started yet. Each `with` or `async with` starts a new system."""

    def __init__(
        self, registry: Registry, settings: Settings, seed: int, telemetry: Telemetry = NO_TELEMETRY
    ) -> None:
        self._telemetry = telemetry
        self._registry = registry
        self._settings = settings
        self._seed = seed
        # Stacks, because a context may be entered again before it is left.
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
        """The context of an embedded system, not entered yet."""
        return embedded(
            self._registry, self._settings, store="memory", clock=clock, ids=ids, telemetry=self._telemetry
        )


class System:
    """A system with virtual time on its own event loop. Not thread-safe.

    Each call runs the loop until its result is available. Between calls, nothing happens.

    Attributes:
        embedded: the parts of the system: log, store, notifier, names, services. Call their coroutines with
            `wait`.

    Raises:
        RuntimeError: an event loop runs in this thread: use `async with system(...)` there.
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
            timeout: maximum virtual seconds to wait. The run itself continues after the timeout.
            check: raise an error unless the run completed.

        Raises:
            RequestRefused: the request is invalid, with every error.
            TimeoutError: the run has not ended within `timeout`.
            RunFailed, RunCancelled, RunTimedOut: with `check`, the run did not complete.
        """
        return self.submit(request).result(timeout, check=check)

    def submit(self, request: AnyRequest) -> SystemRun:
        """Submit a request. The run makes progress during later calls, such as `result` and `advance`.

        Raises:
            RequestRefused: the request is invalid, with every error.
        """
        return SystemRun(self, self.wait(self._system.submit(request)))

    def retry(self, run: SystemRun, *, request_id: str | None = None) -> SystemRun:
        """Retry a run that did not complete; see `Client.retry`."""
        client = self.embedded.client
        return SystemRun(self, self.wait(client.retry(run.run_id, request_id=request_id)))

    def advance(self, seconds: float) -> None:
        """Let virtual time pass, with all that happens in it. Does not wait for threads of `def` agents."""
        self._loop.force_until(self._loop.time() + seconds)
        self.wait(asyncio.sleep(seconds))

    def publish(self, session_id: str, key: str, value: Any) -> None:
        """Provide an external value as another system does: SET it in the store, then PUBLISH on its channel."""
        self.wait(self._system.publish(session_id, key, value))

    def value(self, session_id: str, key: str) -> Any:
        """The value of a session's key, with a reference resolved; None if there is none."""
        return self.wait(self._system.value(session_id, key))

    def records(self, topic: str) -> list[Incoming]:
        """All records on a topic, partition by partition. `topic` is without its prefix, such as `groups`."""
        return self.wait(self._system.records(topic))

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the start."""
        return self._loop.time()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the system's loop and return its result.

        Raises:
            ServiceStopped: a service has stopped with an error, so the coroutine might wait forever.
        """
        result: T = self._loop.run_until_complete(self._unless_stopped(work))
        return result

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        while not task.done():
            # In intervals, because a stopped service wakes nobody: the awaited run would never end.
            await asyncio.wait({task}, timeout=POLL_SECONDS)
            stopped = [service for service in self._services if not service.health().live]
            if stopped and not task.done():
                task.cancel()
                await asyncio.wait({task})
                raise ServiceStopped(f"{stopped[0].name} {stopped[0].health().detail}")
        return task.result()

    def close(self) -> None:
        """Stop the services gracefully and close the loop. Running agents are cancelled."""
        # Emptied first: `wait` would report services that stop now as stopped with an error.
        self._services = ()
        self._loop.force_until(self._loop.time() + STOP_SECONDS)
        try:
            self.wait(_within(STOP_SECONDS, self._stack.aclose()))
        finally:
            self._close_loop()

    def _close_loop(self) -> None:
        self._loop.run_until_complete(cancel_leftover_tasks())
        self._loop.close()


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(seconds):
        return await work


def _refuse_a_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("an event loop runs in this thread: use `async with system(...)`, and await its calls")


class SystemRun:
    """A run in a `System`. `run_id`, `request_id` and `session_id` are those of the `Run`."""

    def __init__(self, system: System, run: Run) -> None:
        self._system = system
        self._run = run
        self.run_id = run.run_id
        self.request_id = run.request_id
        self.session_id = run.session_id

    def result(self, timeout: float | None = None, *, check: bool = False) -> RunResult:
        """Wait for the end of the run; see `Run.result`. `timeout` is in virtual seconds."""
        return self._system.wait(self._run.result(timeout, check=check))

    def events(self) -> list[dict[str, Any]]:
        """The run's lifecycle events so far, in order."""
        return self._system.wait(_gathered(self._run))

    def cancel(self) -> None:
        """Request cancellation of the run; `result` waits until it has ended."""
        self._system.wait(self._run.cancel())

    def pause(self) -> None:
        """Request a pause: no further members start."""
        self._system.wait(self._run.pause())

    def resume(self) -> None:
        """Resume a paused run."""
        self._system.wait(self._run.resume())

    def signal(self, name: str, value: Any = None) -> None:
        """Send a signal to the run; see `Run.signal`."""
        self._system.wait(self._run.signal(name, value))

    def approve(self, task: str, decision: str = "approve", **more: Any) -> Decision:
        """Decide about a task that waits for a person, as `by`, with `data` and `comment`; see `Run.approve`."""
        return self._system.wait(self._run.approve(task, decision, **more))

    def redrive(
        self, group: str | None = None, task: str | None = None, indexes: Sequence[int] | None = None
    ) -> None:
        """Run held members again; see `Run.redrive`."""
        self._system.wait(self._run.redrive(group, task, indexes))

    def dismiss(
        self, group: str | None = None, task: str | None = None, indexes: Sequence[int] | None = None
    ) -> None:
        """Count held members as failed; see `Run.dismiss`."""
        self._system.wait(self._run.dismiss(group, task, indexes))


async def _gathered(run: Run) -> list[dict[str, Any]]:
    return [event async for event in run.events(until_now=True)]
