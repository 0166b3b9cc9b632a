"""Owners of a partition that decide nothing, for tests of how partitions are taken over and released."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anabranch.adapters.memory.notifier import MemoryNotifier
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.names import Names
from anabranch.core.snapshots import PartitionTrail, SnapshottedRun
from anabranch.core.wire.codec import RUNS
from anabranch.ports import Clock, EventLog, Incoming, Outgoing
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.ownership.owner import Owner
from anabranch.runtime.ownership.snapshots import RunSnapshots
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.supervision import Supervisor


@dataclass(slots=True)
class BareState:
    """A partition without runs, in a generation of its topic."""

    generation: int
    opened: Mapping[str, SnapshottedRun] = field(default_factory=dict)
    trail: PartitionTrail[Any] = field(default_factory=lambda: PartitionTrail(strays={}))


def _no_run(*_: Any) -> Any:
    raise AssertionError("a handler that decides nothing has no run")


class BareHandler:
    """A handler of a topic that decides nothing."""

    group = "g"

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.snapshots: RunSnapshots[BareState] = RunSnapshots(
            topic, RUNS, key_of=_no_run, snapshot_of=_no_run, decode_run=_no_run
        )

    def fence_key(self, scope: str) -> str:
        return scope

    def new_state(self, partition: int, generation: int) -> BareState:
        return BareState(generation)

    async def prepare(self, state: BareState, records: Sequence[Incoming], recall: Any) -> None:
        pass

    def decide(self, state: BareState, records: Sequence[Incoming], rejected: Any) -> list[Any]:
        return []

    def oldest_open(self, state: BareState) -> None:
        return None

    def next_due(self, state: BareState) -> None:
        return None

    def orphans(self, state: BareState) -> list[Outgoing]:
        return []

    def on_rebuilt(self, state: BareState, open_from: int) -> None:
        pass

    async def on_takeover(self, state: BareState) -> None:
        pass

    async def hand_over(self, state: BareState) -> None:
        pass

    async def on_release(self, state: BareState) -> None:
        pass


def bare_owner(handler: Any, log: EventLog, clock: Clock, names: Names) -> Owner[BareState]:
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
