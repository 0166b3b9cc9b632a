"""The simulator's store loses data, but never gets a state that it never had."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.adapters.memory.store import MemoryStore
from anabranch.ports import Write
from anabranch.testing.simulator.revertible_server import LOST_SECOND, RevertibleServer


@dataclass
class HandClock:
    time: float = 1_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


async def contents(server: RevertibleServer) -> dict[str, object]:
    store = MemoryStore(server)
    found = dict(zip("ab", await store.get(["a", "b"]), strict=True))
    return found | {"index": await store.index_top("i", 10)}


async def test_a_rolled_back_store_is_that_of_a_second_ago_even_if_it_was_emptied_since() -> None:
    clock = HandClock()
    server = RevertibleServer(clock, lambda *_: None)
    store = MemoryStore(server)
    await store.put([Write("a", b"1", 100), Write("b", b"1", 100)])
    await store.index_add("i", {"first": 1.0}, keep=5, ttl=100)
    before = await contents(server)
    clock.time += LOST_SECOND + 0.1
    await store.put([Write("a", b"2", 100)])
    await store.index_add("i", {"second": 2.0}, keep=5, ttl=100)
    server.restart()
    emptied = await contents(server)
    await store.put([Write("a", b"3", 100)])
    server.restart_older()

    assert emptied == {"a": None, "b": None, "index": []}
    assert await contents(server) == before
    clock.time += 99
    assert (await contents(server))["index"] == []
