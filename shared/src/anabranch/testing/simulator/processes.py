"""Simulated processes: each runs one real service on its own ports, and can be killed, frozen, expelled,
restarted.

A process that has ended is started again as a new incarnation, as by an orchestrator. `world` decides when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from anabranch import compose
from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.ports import Ids
from anabranch.runtime.fitted_log import FittedLog
from anabranch.runtime.process.lifecycle import Service
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.supervision import Supervisor
from anabranch.sdk.agents import Registry
from anabranch.sdk.programs.spec import ProgramKind
from anabranch.testing.simulator.fault_injector import FaultInjector
from anabranch.testing.simulator.loop import OUTSIDE, ProcessGate, SimLoop, inside
from anabranch.testing.simulator.outside import Platform
from anabranch.testing.simulator.revertible_server import RevertibleServer
from anabranch.testing.simulator.servers import SimLog, SimNotifier, SimStore, Wire
from anabranch_taskgroup.worker.executors.programs.engine import ProgramEngine

HEALTH_SECONDS = 5.0
SESSION_SECONDS = 6.0


@dataclass(slots=True)
class SimClock:
    """See `ports.Clock`. The wall clock of a process is ahead by `skew` seconds."""

    loop: SimLoop
    skew: float = 0.0

    def now(self) -> float:
        return self.loop.epoch + self.loop.time() + self.skew

    def monotonic(self) -> float:
        return self.loop.time()


@dataclass(frozen=True, slots=True)
class Site:
    """Shared by all processes: loop, servers, random source, settings."""

    loop: SimLoop
    injector: FaultInjector
    broker: MemoryBroker
    server: RevertibleServer
    settings: Callable[[str, int], Settings]
    """Returns the settings of a process by its name and the number of its incarnation."""
    ids: Ids
    make_registry: Callable[[Process], Registry]
    report: Callable[[str], None]
    """Receives a violated promise."""
    platform: Platform | None
    """Runs work outside of workers."""
    built: Callable[[str, Service], None]
    """Observes the service of each incarnation of a process, by the name of the process."""


class Incarnation:
    """One incarnation of a process: its gate, its ports, and its service once it is built."""

    def __init__(
        self, site: Site, name: str, clock: SimClock, settings: Settings, build: Callable[[Resources], Service]
    ) -> None:
        self.gate = ProcessGate(name)
        context = inside(self.gate)
        loop, injector = site.loop, site.injector
        self.log = SimLog(loop, site.broker, clock, injector, name, context)
        self.store = SimStore(site.server, Wire(loop, injector, name, "store"))
        self.notifier = SimNotifier(loop, site.server, Wire(loop, injector, name, "store"), injector, context)
        self.service: Service | None = None
        self.is_started = False
        self.thaws = 0
        """How often the process was resumed."""
        self.resources = Resources(
            settings=settings,
            names=settings.names,
            log=FittedLog(self.log, settings.names),
            store=self.store,
            notifier=self.notifier,
            clock=clock,
            ids=site.ids,
            supervisor=None,  # type: ignore[arg-type]  # created in `_live`, on the loop and in this context
        )
        self.task = loop.create_task(self._live(build), name=name, context=context)

    async def _live(self, build: Callable[[Resources], Service]) -> str | None:
        """Run until the service is not live; returns the reason, or None if a server was unreachable at the
        start."""
        self.resources = replace(self.resources, supervisor=Supervisor())
        self.service = build(self.resources)
        try:
            await self.service.start()
        except (ServerUnavailable, StoreRefused):
            return None
        self.is_started = True
        crash = asyncio.ensure_future(self.resources.supervisor.crashed())
        while self.service.health().live and not crash.done():
            await asyncio.wait({crash}, timeout=HEALTH_SECONDS)
        return self.service.health().detail if not crash.done() else repr(crash.result())


class Process:
    """Runs a service in a sequence of incarnations."""

    def __init__(self, site: Site, kind: str, number: int, skew: float = 0.0) -> None:
        self._site = site
        self.kind = kind
        self.name = f"{kind}-{number}"
        self.clock = SimClock(site.loop, skew)
        self.incarnation: Incarnation | None = None
        self.incarnations: list[Incarnation] = []
        self._stopping: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """True if an incarnation runs or starts."""
        return self.incarnation is not None and self.incarnation.gate.is_open

    def start(self) -> None:
        """Start an incarnation, unless one exists."""
        if self.incarnation is None:
            name = f"{self.name}.{len(self.incarnations)}"
            settings = self._site.settings(self.name, len(self.incarnations))
            incarnation = self.incarnation = Incarnation(self._site, name, self.clock, settings, self._build)
            self.incarnations.append(incarnation)
            incarnation.task.add_done_callback(lambda task: self._ended(incarnation, task), context=OUTSIDE)

    def _build(self, resources: Resources) -> Service:
        if self.kind == "agency":
            return compose.agency(resources, self._site.make_registry(self).choices)
        if self.kind == "taskgroup":
            service = compose.taskgroup(resources, self._site.make_registry(self), self._open_engine)
            self._site.built(self.name, service)
            return service
        return compose.embedded_eventmanager(resources)

    def _open_engine(self, kind: ProgramKind, settings: Settings) -> ProgramEngine:
        platform, incarnation = self._site.platform, self.incarnation
        assert platform is not None, "the settings turn it on"
        assert incarnation is not None, "its service is being built"
        return platform.engine_of(incarnation.gate.name)

    def _ended(self, incarnation: Incarnation, task: asyncio.Task[str | None]) -> None:
        """Handle an incarnation that ended by itself. That is a violation, unless a server was unreachable at its
        start."""
        # The incarnation was killed or restarted on purpose.
        if task.cancelled() or self.incarnation is not incarnation:
            return
        error = task.exception()
        why = repr(error) if error is not None else task.result()
        if why is not None:
            self._site.report(f"{incarnation.gate.name} stopped by itself: {why}")
        self.kill(1.0)

    # --- faults --------------------------------------------------------------------------------------

    def kill(self, seconds: float) -> None:
        """Kill the process between two steps; start it again after `seconds`."""
        incarnation, self.incarnation = self.incarnation, None
        if incarnation is not None:
            incarnation.gate.is_open = False
            incarnation.log.vanish()
            incarnation.notifier.vanish()
            self._later(seconds, self.start)

    def freeze(self, seconds: float) -> None:
        """Suspend the process for `seconds`. After the session timeout, its partitions are assigned to others."""
        incarnation = self.incarnation
        if incarnation is None:
            return
        incarnation.gate.is_open = False
        if seconds > SESSION_SECONDS:
            self._later(SESSION_SECONDS, self._expel_silent, incarnation, incarnation.thaws)
        self._later(seconds, self._thaw, incarnation, self._site.injector.random.random() * 3)

    def thaw(self) -> None:
        """Resume a suspended process."""
        if self.incarnation is not None and not self.incarnation.gate.is_open:
            self._thaw(self.incarnation, 0.0)

    def _thaw(self, incarnation: Incarnation, notices_after: float) -> None:
        if self.incarnation is incarnation:
            incarnation.thaws += 1
            self._site.loop.open(incarnation.gate)
            self._later(notices_after, self._notice, incarnation)

    def _later(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        """Call an action later, also if the process is suspended then."""
        self._site.loop.call_later(seconds, action, *args, context=OUTSIDE)

    def expel(self, seconds: float) -> None:
        """Take the partitions away from the process, which notices it after `seconds`."""
        if self.incarnation is not None:
            self._expel(self.incarnation, False)
            self._later(seconds, self._notice, self.incarnation)

    def _expel_silent(self, incarnation: Incarnation, thaws: int) -> None:
        """Expel a process that was suspended for a whole session. One that was resumed meanwhile, after another
        strike, has begun a new session."""
        if incarnation.thaws == thaws:
            self._expel(incarnation, True)

    def _expel(self, incarnation: Incarnation, was_silent: bool) -> None:
        if self.incarnation is incarnation:
            for membership in incarnation.log.memberships:
                membership.expel(was_silent=was_silent)

    def _notice(self, incarnation: Incarnation) -> None:
        if self.incarnation is incarnation:
            for membership in incarnation.log.memberships:
                membership.notice()

    def restart(self) -> None:
        """Stop the process gracefully, then start it again."""
        incarnation = self.incarnation
        if incarnation is not None and incarnation.is_started and incarnation.gate.is_open:
            self._stopping = self._site.loop.create_task(
                self._restart(incarnation), context=inside(incarnation.gate)
            )

    async def _restart(self, incarnation: Incarnation) -> None:
        assert incarnation.service is not None
        try:
            async with asyncio.timeout(10.0):
                await incarnation.service.drain()
        except TimeoutError:
            pass
        try:
            async with asyncio.timeout(10.0):
                await incarnation.service.stop()
                await incarnation.log.close()
        except (TimeoutError, ServerUnavailable, StoreRefused):
            pass
        if self.incarnation is incarnation:
            incarnation.gate.is_open = False
            self._later(0.0, self.kill, 0.5)
