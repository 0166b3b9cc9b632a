"""When changed views are written: at once if few change, together if many do. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest
from eventmanager_records import cancelled_run

from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.errors import ServerUnavailable
from anabranch.core.names import Names
from anabranch.ports import Fence, HistoryEntry, Write
from anabranch.testing.loop import VirtualClock
from anabranch.testing.simulator.loop import SimLoop
from anabranch_eventmanager.projection.decisions import EventProjection, RecordPosition
from anabranch_eventmanager.projection.documents import Document, run_key
from anabranch_eventmanager.projection.records import decode_record
from anabranch_eventmanager.view_writer import QUICK_SECONDS, RETRY_SECONDS, WINDOW_SECONDS, ViewWriter

NAMES = Names("t.")
Body = Callable[["World"], Coroutine[Any, Any, None]]


class Store(MemoryStore):
    """Notes which views are written when."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(server)
        self.written: list[tuple[float, list[str]]] = []
        self.index_calls = 0

    async def put(self, writes: Sequence[Write | HistoryEntry], fence: Fence | None = None) -> None:
        """See `ports.StateStore`."""
        await super().put(writes, fence)
        keys = [each.key.rpartition(":")[2] for each in writes if isinstance(each, Write) and b"{" in each.value]
        self.written.append((round(asyncio.get_running_loop().time(), 3), keys))

    async def index_add(self, index: str, scores: Mapping[str, float], *, keep: int, ttl: float) -> None:
        """See `ports.StateStore`."""
        self.index_calls += 1
        await super().index_add(index, scores, keep=keep, ttl=ttl)


class World:
    """A writer of views, and the documents of many runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        clock = VirtualClock(loop)
        self.server = MemoryServer(clock)
        self.store = Store(self.server)
        self.documents: dict[str, Document] = {}
        self.settled: list[str] = []
        self.views = ViewWriter(self.store, NAMES, clock, 3_600.0)
        self.views.documents_of = lambda number: self.documents if number == 0 else None
        self.views.written = lambda number, run_id, offset: self.settled.append(run_id)

    def change(self, run_id: str, *, urgent: bool = False) -> None:
        for offset, value in enumerate(cancelled_run(run_id)):
            at = RecordPosition(0, offset, 0.0)
            self.documents |= EventProjection("ch").apply(self.documents, decode_record(value), at).writes
        self.views.mark_changed(0, run_id, urgent=urgent)

    async def until(self, when: float) -> None:
        await asyncio.sleep(when - asyncio.get_running_loop().time())


def _run(body: Body) -> World:
    loop = SimLoop()  # type: ignore[abstract]  # it has no sockets, signals or child processes
    world = World(loop)

    async def all_of_it() -> None:
        running = asyncio.create_task(world.views.run())
        await world.until(10.0)
        await body(world)
        running.cancel()

    try:
        loop.run_until_complete(all_of_it())
    finally:
        loop.close()
    return world


def test_the_first_change_after_a_pause_is_written_at_once() -> None:
    async def body(world: World) -> None:
        world.change("a")
        await world.until(11)

    assert _run(body).store.written == [(10 + QUICK_SECONDS, ["a"])]


def test_the_start_and_the_end_of_a_single_run_are_written_at_once() -> None:
    async def body(world: World) -> None:
        world.change("a")
        await world.until(10.1)
        world.change("a", urgent=True)
        await world.until(11)

    assert _run(body).store.written == [(10 + QUICK_SECONDS, ["a"]), (10.1 + QUICK_SECONDS, ["a"])]


def test_changes_that_are_not_urgent_wait_for_the_end_of_the_window() -> None:
    async def body(world: World) -> None:
        for run_id in "abc":
            world.change(run_id)
        world.change("b")
        await world.until(11)

    written = _run(body).store.written
    assert written == [(10 + QUICK_SECONDS, ["a"]), (10 + WINDOW_SECONDS, ["b", "c"])]


def test_of_many_ends_some_are_written_at_once_and_the_others_together() -> None:
    async def body(world: World) -> None:
        for number in range(12):
            world.change(str(number), urgent=True)
            await world.until(10 + (number + 1) * 0.02)
        await world.until(11)

    world = _run(body)
    assert [when for when, _ in world.store.written] == [10.02, 10.04, 10.25]
    assert sorted(int(key) for _, keys in world.store.written for key in keys) == list(range(12))
    assert world.store.index_calls == 3


def test_a_change_during_a_write_is_written_later() -> None:
    async def body(world: World) -> None:
        def written(number: int, run_id: str, offset: int) -> None:
            if len(world.store.written) == 1:
                world.views.mark_changed(0, run_id, urgent=False)

        world.views.written = written
        world.change("a")
        await world.until(12)

    assert _run(body).store.written == [(10 + QUICK_SECONDS, ["a"]), (10 + WINDOW_SECONDS, ["a"])]


@pytest.mark.parametrize("urgent", [True, False])
def test_views_are_written_once_the_store_is_back(urgent: bool) -> None:
    async def body(world: World) -> None:
        world.change("a")
        await world.until(10.1)
        world.server.down = True
        for run_id in "bc":
            world.change(run_id, urgent=urgent)
        await world.until(10.5)
        assert world.views.unhealthy_reason
        world.change("d", urgent=True)
        world.server.down = False
        await world.until(10.6 + RETRY_SECONDS + WINDOW_SECONDS)
        assert world.views.unhealthy_reason == ""

    world = _run(body)
    assert sorted(key for _, keys in world.store.written for key in keys) == list("abcd")
    assert sorted(world.settled) == list("abcd")


def test_a_run_is_removed_from_the_list_once_the_store_is_back() -> None:
    async def body(world: World) -> None:
        world.change("a")
        world.change("b")
        await world.until(11)
        world.server.down = True
        world.views.drop("a")
        with pytest.raises(ServerUnavailable):
            await world.views.flush()
        world.server.down = False
        await world.until(13)
        assert await world.store.index_top(NAMES.run_list, 9) == ["b"]

    _run(body)


def test_views_of_revoked_partitions_and_dropped_runs_are_not_written() -> None:
    async def body(world: World) -> None:
        world.change("a")
        world.views.mark_changed(1, "revoked", urgent=True)
        world.change("dropped", urgent=True)
        del world.documents[run_key("dropped")]
        await world.until(11)

    assert [keys for _, keys in _run(body).store.written] == [["a"]]
