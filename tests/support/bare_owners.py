"""Owners of a partition that decide nothing, for tests of how partitions are taken over and released."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anabranch.adapters.memory.notifier import MemoryNotifier
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.names import Names
from anabranch.ports import Clock, EventLog, Incoming, Outgoing
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.ownership.owner import Owner
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.supervision import Supervisor


class BareHandler:
    """A handler of a topic that decides nothing. Its state is the generation of the topic."""

    group = "g"

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def fence_key(self, scope: str) -> str:
        return scope

    def new_state(self, partition: int, generation: int) -> int:
        return generation

    async def prepare(self, state: int, records: Sequence[Incoming], recall: Any) -> None:
        pass

    def decide(self, state: int, records: Sequence[Incoming], rejected: Any) -> list[Any]:
        return []

    def oldest_open(self, state: int) -> None:
        return None

    def next_due(self, state: int) -> None:
        return None

    def orphans(self, state: int) -> list[Outgoing]:
        return []

    def on_rebuilt(self, state: int, open_from: int) -> None:
        pass

    async def on_takeover(self, state: int) -> None:
        pass

    async def hand_over(self, state: int) -> None:
        pass

    async def on_release(self, state: int) -> None:
        pass


def bare_owner(handler: Any, log: EventLog, clock: Clock, names: Names) -> Owner[int]:
    """An owner with a handler and a memory store of its own; it commits after half a second."""
    server = MemoryServer(clock)
    resources = Resources(
        settings=Settings(loss_window=0.5),
        names=names,
        log=log,
        store=MemoryStore(server),
        notifier=MemoryNotifier(server),
        clock=clock,
        ids=SystemIds(clock),
        supervisor=Supervisor(),
    )
    return Owner(handler, resources, LogClock(clock), name="o")
