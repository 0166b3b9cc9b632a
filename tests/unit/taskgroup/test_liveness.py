"""What a worker's heartbeat writes: the liveness key each time, the card only when that is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.names import Names
from anabranch.ports import Fence, HistoryEntry, Write
from anabranch_taskgroup.worker.liveness import CARD_SECONDS, Liveness

NAMES = Names()
KEY, CARD = NAMES.worker("w"), NAMES.worker_card("w")


class Recording(MemoryStore):
    """Keeps the keys of each write."""

    written: list[list[str]]

    async def put(self, writes: Sequence[Write | HistoryEntry], fence: Fence | None = None) -> None:
        self.written.append([each.key for each in writes])
        await super().put(writes, fence)


@dataclass
class ManualClock:
    time: float = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@dataclass
class Beats:
    """A worker's heartbeats, and what they write."""

    clock: ManualClock = field(default_factory=ManualClock)
    card: bytes = b"idle"
    store_age: float = float("inf")

    def __post_init__(self) -> None:
        self.store = Recording(MemoryServer(self.clock))
        self.store.written = []
        self.liveness = Liveness(
            self.store,
            NAMES,
            self.clock,
            lambda: self.card,
            store_age=lambda: self.store_age,
            incarnation="w",
            lease=6.0,
            catch_up=(),
        )

    async def beat(self, seconds: float = 2.0) -> list[str]:
        """The keys that the next heartbeat writes."""
        self.clock.time += seconds
        await self.liveness.show()
        return self.store.written.pop()


async def test_a_card_is_written_first_when_it_changes_and_once_a_minute() -> None:
    beats = Beats()
    assert await beats.beat() == [KEY, CARD]
    assert [await beats.beat() for _ in range(3)] == [[KEY]] * 3
    beats.card = b"busy"
    assert await beats.beat() == [KEY, CARD]
    assert await beats.store.get([CARD]) == [b"busy"]
    assert await beats.beat() == [KEY]
    assert await beats.beat(CARD_SECONDS) == [KEY, CARD]


async def test_a_key_may_have_lapsed_once_two_beats_are_missing() -> None:
    beats = Beats()
    assert beats.liveness.may_have_lapsed
    await beats.beat()
    beats.clock.time += 4.0
    assert not beats.liveness.may_have_lapsed
    beats.clock.time += 0.1
    assert beats.liveness.may_have_lapsed


async def test_a_card_is_written_again_to_a_store_that_is_new() -> None:
    beats = Beats()
    await beats.beat()
    beats.store_age = 1.0

    assert await beats.beat() == [KEY, CARD]
    beats.store_age = 3.0
    assert await beats.beat() == [KEY]
    assert await beats.store.index_top(NAMES.worker_list, 10) == ["w"]
