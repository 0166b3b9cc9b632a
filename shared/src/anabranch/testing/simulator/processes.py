"""Simulated processes: each runs one real service on its own ports, and can be killed, frozen, expelled, stopped.

A process that ended, however, is started anew under another incarnation, as an orchestrator does. What is done to
processes, and when, is the business of `world`.
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
from anabranch.testing.loop import EPOCH
from anabranch.testing.simulator.loop import OUTSIDE, ProcessGate, SimLoop, inside
from anabranch.testing.simulator.nature import Nature
from anabranch.testing.simulator.servers import ForgetfulServer, SimLog, SimNotifier, SimStore, Wire

HEALTH_SECONDS = 5.0
SESSION_SECONDS = 6.0


@dataclass(slots=True)
class SimClock:
    """See `ports.Clock`: the wall clock of one process may be wrong by `skew` seconds."""

    loop: SimLoop
    skew: float = 0.0

    def now(self) -> float:
        return EPOCH + self.loop.time() + self.skew

    def monotonic(self) -> float:
        return self.loop.time()


@dataclass(frozen=True, slots=True)
class Site:
    """What all processes share."""

    loop: SimLoop
    nature: Nature
    broker: MemoryBroker
    server: ForgetfulServer
    settings: Callable[[str, int], Settings]
    """Those of a process, by its name, in one of its lives."""
    ids: Ids
    make_registry: Callable[[Process], Registry]
    report: Callable[[str], None]
    """Takes a promise that was broken."""


class Life:
    """One life of a process: its gate, its ports, its service once it is built."""

    def __init__(
        self, site: Site, name: str, clock: SimClock, settings: Settings, build: Callable[[Resources], Service]
    ) -> None:
        self.gate = ProcessGate(name)
        context = inside(self.gate)
        loop, nature = site.loop, site.nature
        self.log = SimLog(loop, site.broker, clock, nature, name, context)
        self.store = SimStore(site.server, Wire(loop, nature, name, "store"))
        self.notifier = SimNotifier(loop, site.server, Wire(loop, nature, name, "store"), nature, context)
        self.service: Service | None = None
        self.is_started = False
        self.resources = Resources(
            settings=settings,
            names=settings.names,
            log=FittedLog(self.log, settings.names),
            store=self.store,
            notifier=self.notifier,
            clock=clock,
            ids=site.ids,
            supervisor=None,  # type: ignore[arg-type]  # made on the loop, in the life's own task
        )
        self.task = loop.create_task(self._live(build), name=name, context=context)

    async def _live(self, build: Callable[[Resources], Service]) -> str | None:
        """Run until the service is not live; returns why, None where a server was away at the start."""
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
    """A place where a service runs, life after life."""

    def __init__(self, site: Site, kind: str, number: int, skew: float = 0.0) -> None:
        self._site = site
        self.kind = kind
        self.name = f"{kind}-{number}"
        self.clock = SimClock(site.loop, skew)
        self.life: Life | None = None
        self.lives: list[Life] = []
        self._stopping: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether it runs, or is about to."""
        return self.life is not None and self.life.gate.is_open

    def start(self) -> None:
        """Begin a life, unless there is one."""
        if self.life is None:
            name = f"{self.name}.{len(self.lives)}"
            settings = self._site.settings(self.name, len(self.lives))
            life = self.life = Life(self._site, name, self.clock, settings, self._build)
            self.lives.append(life)
            life.task.add_done_callback(lambda task: self._ended(life, task), context=OUTSIDE)

    def _build(self, resources: Resources) -> Service:
        if self.kind == "agency":
            return compose.agency(resources, self._site.make_registry(self).names)
        if self.kind == "taskgroup":
            return compose.taskgroup(resources, self._site.make_registry(self))
        return compose.embedded_eventmanager(resources)

    def _ended(self, life: Life, task: asyncio.Task[str | None]) -> None:
        """A life that ended by itself; it crashed, unless a server was away when it began."""
        if task.cancelled() or self.life is not life:
            return
        error = task.exception()
        why = repr(error) if error is not None else task.result()
        if why is not None:
            self._site.report(f"{life.gate.name} stopped by itself: {why}")
        self.kill(1.0)

    # --- what is done to it --------------------------------------------------------------------------

    def kill(self, seconds: float) -> None:
        """Be gone between two steps; start anew after so many seconds."""
        life, self.life = self.life, None
        if life is not None:
            life.gate.is_open = False
            life.log.vanish()
            life.notifier.vanish()
            self._later(seconds, self.start)

    def freeze(self, seconds: float) -> None:
        """Stand still; after the session timeout the partitions are others'."""
        life = self.life
        if life is None:
            return
        life.gate.is_open = False
        if seconds > SESSION_SECONDS:
            self._later(SESSION_SECONDS, self._expel, life)
        self._later(seconds, self._thaw, life, self._site.nature.random.random() * 3)

    def thaw(self) -> None:
        """Go on after a freeze."""
        if self.life is not None and not self.life.gate.is_open:
            self._thaw(self.life, 0.0)

    def _thaw(self, life: Life, notices_after: float) -> None:
        if self.life is life:
            self._site.loop.open(life.gate)
            self._later(notices_after, self._notice, life)

    def _later(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        """In the world's time, not in that of the process."""
        self._site.loop.call_later(seconds, action, *args, context=OUTSIDE)

    def expel(self, seconds: float) -> None:
        """Lose the partitions, and learn of it only after so many seconds."""
        if self.life is not None:
            self._expel(self.life)
            self._later(seconds, self._notice, self.life)

    def _expel(self, life: Life) -> None:
        if self.life is life:
            for membership in life.log.memberships:
                membership.expel()

    def _notice(self, life: Life) -> None:
        if self.life is life:
            for membership in life.log.memberships:
                membership.notice()

    def restart(self) -> None:
        """Stop in good order, then start anew."""
        life = self.life
        if life is not None and life.is_started and life.gate.is_open:
            self._stopping = self._site.loop.create_task(self._restart(life), context=inside(life.gate))

    async def _restart(self, life: Life) -> None:
        assert life.service is not None
        try:
            async with asyncio.timeout(10.0):
                await life.service.drain()
        except TimeoutError:
            pass
        try:
            async with asyncio.timeout(10.0):
                await life.service.stop()
                await life.log.close()
        except (TimeoutError, ServerUnavailable, StoreRefused):
            pass
        if self.life is life:
            life.gate.is_open = False
            self._later(0.0, self.kill, 0.5)
