"""The event manager in one process: from records on the log to views, channels, nudges and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from eventmanager_records import CHANNEL, cancelled_run, recording, subscribe, wide_run

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.notifier import MemoryNotifier
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.names import Names
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.run_view import RunView
from anabranch.ports import Incoming, Outgoing, TopicSpec
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.reading.views import list_views, load_view
from anabranch_eventmanager.app import build_embedded
from anabranch_eventmanager.service import EventManager

NAMES = Names("t.")


class SteppedClock:
    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class World:
    """Servers in memory, and an event manager that can be stopped and started."""

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.server = MemoryServer(self.clock)
        self.log = MemoryLog(MemoryBroker(), self.clock)
        self.store = MemoryStore(self.server)
        self.notifier = MemoryNotifier(self.server)

    async def manager(self) -> EventManager:
        manager = build_embedded(
            Resources(
                Settings(result_ttl=3600, nudge_after=30),
                NAMES,
                self.log,
                self.store,
                self.notifier,
                self.clock,
                SystemIds(self.clock),
                Supervisor(),
            )
        )
        await manager.start()
        return manager

    async def publish(self, *records: tuple[str, bytes]) -> None:
        await self.log.publish([Outgoing(NAMES.events, key, value) for key, value in records])

    async def listen(self, channel: str) -> list[dict[str, Any]]:
        received: list[dict[str, Any]] = []
        await self.notifier.subscribe(channel, lambda message: received.append(orjson.loads(message or b"null")))
        return received

    async def topic(self, topic: str, count: int) -> list[Incoming]:
        found: list[Incoming] = []
        async with self.log.read(topic, start="earliest") as reader:
            async for records in reader:
                found += records
                if len(found) >= count:
                    break
        return found


async def _until(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(10):
        while not (found := condition()):
            await asyncio.sleep(0.005)
        return found


async def _status(world: World, run: str, status: str) -> RunView:
    async with asyncio.timeout(10):
        while (view := await load_view(world.store, NAMES, run)) is None or view.status != status:
            await asyncio.sleep(0.005)
        return view


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("anabranch_eventmanager.service.TICK_SECONDS", 0.005)
    monkeypatch.setattr("anabranch_eventmanager.view_writer.WINDOW_SECONDS", 0.005)
    monkeypatch.setattr("anabranch_eventmanager.view_writer.RETRY_SECONDS", 0.005)
    world = World()
    await world.log.create_topics([TopicSpec(topic, 3) for topic in NAMES.topics])
    yield world
    await world.log.close()


async def test_a_run_is_found_by_its_run_id_and_by_its_request_id(world: World) -> None:
    manager = await world.manager()

    await world.publish(*recording())

    view = await _status(world, "run-1", "failed")
    assert view.failure_count == 3
    assert await load_view(world.store, NAMES, "nobody") is None
    await manager.stop()


async def test_runs_are_listed_latest_first(world: World) -> None:
    manager = await world.manager()

    await world.publish(*recording())

    await _status(world, "run-1", "failed")
    await _status(world, "run-2", "cancelled")
    assert [view.run_id for view in await list_views(world.store, NAMES)] == ["run-2", "run-1"]
    assert [view.run_id for view in await list_views(world.store, NAMES, limit=1, offset=1)] == ["run-1"]
    await manager.stop()


async def test_events_are_forwarded_to_the_subscribed_channel(world: World) -> None:
    manager = await world.manager()
    received = await world.listen(CHANNEL)

    await world.publish(*recording())

    await _until(lambda: [event for event in received if event["type"] == "run.failed"])
    assert [event["type"] for event in received] == ["run.accepted", *["task.failed"] * 3, "run.failed"]
    await manager.stop()


async def test_after_a_restart_views_are_rebuilt_and_nothing_is_forwarded_twice(world: World) -> None:
    received = await world.listen(CHANNEL)
    first = await world.manager()
    await world.publish(*recording()[:-1])
    await _until(lambda: [event for event in received if event["type"] == "run.failed"])
    await first.drain()
    await first.stop()
    world.server.restart()
    count = len(received)

    second = await world.manager()
    await world.publish(*recording()[-1:])

    await _status(world, "run-1", "failed")
    await _status(world, "run-2", "cancelled")
    assert len([event for event in received if event]) == len([event for event in received[:count] if event])
    await second.stop()


async def test_an_invalid_record_is_dead_lettered_and_the_others_are_handled(world: World) -> None:
    manager = await world.manager()

    await world.publish(("run-2", b"rubbish"), *(("run-2", value) for value in cancelled_run()))

    await _status(world, "run-2", "cancelled")
    (dead_letter,) = await world.topic(NAMES.dead_letters, 1)
    assert dead_letter.value == b"rubbish"
    assert b"not JSON" in dict(dead_letter.headers)["anabranch_reason"]
    await manager.stop()


async def test_the_owner_of_a_silent_run_is_nudged(world: World) -> None:
    manager = await world.manager()
    await world.publish(("run-1", wide_run()[0]))
    await _status(world, "run-1", "accepted")

    world.clock.at += 31

    (nudge,) = await world.topic(NAMES.groups, 1)
    assert nudge.key == b"s-1"
    assert GROUPS.decode(nudge.value).message.run_id == "run-1"
    assert GROUPS.decode(nudge.value).message.silent_for == 31
    await manager.stop()


async def test_an_ended_run_is_dropped_after_its_retention(world: World) -> None:
    manager = await world.manager()
    await world.publish(("run-1", subscribe(CHANNEL, run_id="run-1")), *(("run-1", value) for value in wide_run()))
    await _status(world, "run-1", "failed")
    documents = manager.projector.documents_of(await world.log.partition_for(NAMES.events, "run-1"))
    assert documents

    world.clock.at += 3601

    await _until(lambda: not documents)
    assert await load_view(world.store, NAMES, "run-1") is None
    async with asyncio.timeout(10):
        while await world.store.index_top(NAMES.run_list, 10):
            await asyncio.sleep(0.005)
    await manager.stop()


async def test_an_unavailable_store_only_delays_views(world: World) -> None:
    manager = await world.manager()
    received = await world.listen(CHANNEL)
    world.server.down = True

    await world.publish(*recording())
    await _until(lambda: "Redis" in manager.health().detail or "store" in manager.health().detail.lower())
    assert manager.health().live
    world.server.down = False

    await _status(world, "run-1", "failed")
    await _until(lambda: [event for event in received if event["type"] == "run.failed"])
    await manager.stop()


async def test_a_record_that_triggers_a_bug_is_dead_lettered_and_the_others_are_applied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anabranch_eventmanager.projection import decisions

    original = decisions.apply_entry

    def faulty(draft: Any, entry: Any) -> None:
        if entry.type == "task.started":
            raise LookupError("a bug")
        original(draft, entry)

    monkeypatch.setattr(decisions, "apply_entry", faulty)
    manager = await world.manager()

    await world.publish(*(("run-2", value) for value in cancelled_run()))

    await _status(world, "run-2", "cancelled")
    (dead_letter,) = await world.topic(NAMES.dead_letters, 1)
    assert b"LookupError: a bug" in dict(dead_letter.headers)["anabranch_reason"]
    await manager.stop()


async def test_an_emptied_store_gets_its_views_again(world: World) -> None:
    manager = await world.manager()
    await world.publish(*recording())
    await _status(world, "run-1", "failed")
    await _status(world, "run-2", "cancelled")

    world.server.restart()

    await _status(world, "run-1", "failed")
    await _status(world, "run-2", "cancelled")
    async with asyncio.timeout(10):
        while len(await list_views(world.store, NAMES)) < 2:
            await asyncio.sleep(0.005)
    await manager.stop()
