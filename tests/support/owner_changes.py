"""Stops or kills the owners of a system in virtual time, and starts successors."""

from __future__ import annotations

from typing import Any

from anabranch.adapters.memory.log import MemoryLog
from anabranch.compose import agency as build_agency
from anabranch.compose import taskgroup as build_taskgroup
from anabranch.runtime.fitted_log import FittedLog
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.supervision import Supervisor
from anabranch.testing import System
from anabranch.testing.systems import registry_of


class Installation:
    """A system whose Agency and TaskGroup can be stopped or killed, and get successors."""

    def __init__(self, s: System, agents: dict[str, Any]) -> None:
        self.s = s
        self._agents = agents
        self._running = {service.name: service for service in s.embedded.services}

    def end(self, *names: str, killed: bool) -> None:
        for name in names:
            service: Any = self._running.pop(name)
            self.s.wait(_kill(service) if killed else service.stop())
        self._watch()

    def start(self, *names: str) -> None:
        for name in names:
            self._running[name] = self.s.wait(self._started(name))
        self._watch()

    async def _started(self, name: str) -> Any:
        resources, registry = self._resources(), registry_of(self._agents)
        agency = build_agency(resources, registry.names) if name == "agency" else None
        service: Any = agency or build_taskgroup(resources, registry)
        await service.start()
        self.s._stack.push_async_callback(service.stop)
        return service

    def _watch(self) -> None:
        self.s._services = tuple(self._running.values())

    def _resources(self) -> Resources:
        parts, links = self.s.embedded, self.s.embedded.client.links
        log: Any = parts.log
        return Resources(
            settings=Settings(),
            names=parts.names,
            log=FittedLog(MemoryLog(log._inner._broker, links.clock), parts.names),
            store=parts.store,
            notifier=parts.notifier,
            clock=links.clock,
            ids=links.ids,
            supervisor=Supervisor(),
        )


async def _kill(service: Any) -> None:
    """Vanish without any publish, commit or release; its liveness keys expire."""
    service._resources.log._inner.crash()
    for owned in service._owner._owned.values():
        owned.closing = True
    loops = list(service._owner._loops)
    if service.name == "taskgroup":
        worker = service._worker
        loops += [service._sweeper, *worker._tasks._tasks]
        worker._held._runs.clear()
    for loop in loops:
        loop.cancel()
