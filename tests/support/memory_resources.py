"""The resources of a process whose servers are in memory. Call it on a running loop."""

from __future__ import annotations

from typing import Any

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.notifier import MemoryNotifier
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.names import Names
from anabranch.ports import Clock, EventLog
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.supervision import Supervisor


def memory_resources(names: Names, clock: Clock, log: EventLog | None = None, **settings: Any) -> Resources:
    """Resources on a log of their own, unless `log` is given, and on an empty store."""
    server = MemoryServer(clock)
    return Resources(
        settings=Settings(**settings),
        names=names,
        log=log or MemoryLog(MemoryBroker(), clock),
        store=MemoryStore(server),
        notifier=MemoryNotifier(server),
        clock=clock,
        ids=SystemIds(clock),
        supervisor=Supervisor(),
    )
