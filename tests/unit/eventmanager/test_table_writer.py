"""Documents reach the changelog after the effects of their records, and before the offsets of these are done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.core.errors import RecordTooLarge, ServerUnavailable
from anabranch.ports import Incoming, Outgoing, TopicSpec
from anabranch.runtime.process.clock import SystemClock
from anabranch_eventmanager.drivers import table_writer
from anabranch_eventmanager.drivers.table_writer import TableWriter

CHANGELOG = "changelog"
LIMIT = 5_000


class Log(MemoryLog):
    """A log that can be away, and that refuses large records."""

    def __init__(self) -> None:
        super().__init__(MemoryBroker(), SystemClock())
        self.failures = 0
        self.calls = 0

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """See `ports.EventLog`."""
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise ServerUnavailable("Kafka", "b", "away")
        for record in records:
            if len(record.value) > LIMIT:
                raise RecordTooLarge(record.topic, len(record.value), LIMIT)
        return await super().publish(records)


class World:
    """A writer of a changelog with two partitions, and the order of what it does."""

    def __init__(self) -> None:
        self.log = Log()
        self.steps: list[Any] = []
        self.may_continue = asyncio.Event()
        self.may_continue.set()
        self.writer = TableWriter(self.log, CHANGELOG, self._effects_sent, lambda *done: self.steps.append(done))

    async def _effects_sent(self) -> None:
        await self.may_continue.wait()
        self.steps.append("effects sent")

    async def changelog(self) -> list[Incoming]:
        found: list[Incoming] = []
        async with self.log.read(CHANGELOG, start="earliest") as reader:
            ends = await reader.end_offsets()
            if sum(ends.values()):
                async for records in reader:
                    found += records
                    if len(found) == sum(ends.values()):
                        break
        return found

    async def written(self) -> list[tuple[int, bytes | None, Any]]:
        """Partition, key and value of each record."""
        return [
            (each.partition, each.key, None if each.is_null else orjson.loads(each.value))
            for each in await self.changelog()
        ]


@pytest.fixture
async def world() -> World:
    world = World()
    await world.log.create_topics([TopicSpec(CHANGELOG, 2)])
    world.writer.open({0: {}, 1: {}})
    return world


async def test_the_last_of_several_changes_is_written_and_then_the_offset_is_done(world: World) -> None:
    world.writer.put(1, "a", {"n": 1})
    world.writer.put(1, "a", {"n": 2})
    world.writer.put(0, "b", None)
    world.writer.handled(1, 7)

    await world.writer.write()

    assert sorted(await world.written()) == [(0, b"0|b", None), (1, b"1|a", {"n": 2})]
    assert world.steps == ["effects sent", (1, 7)]
    assert world.log.calls == 1


async def test_nothing_is_written_before_the_effects_are_sent(world: World) -> None:
    world.may_continue.clear()
    world.writer.put(0, "a", {})
    world.writer.handled(0, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await world.writer.write()
    assert (await world.written(), world.steps) == ([], [])

    world.may_continue.set()
    await world.writer.write()

    assert (await world.written(), world.steps) == ([(0, b"0|a", {})], ["effects sent", (0, 1)])


async def test_a_write_that_was_cancelled_is_continued_by_the_next_one(world: World) -> None:
    """Else the next one would report offsets whose documents were never written."""
    world.writer.put(0, "a", {"n": 1})
    world.writer.handled(0, 1)
    world.log.failures = 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await world.writer.write()
    assert world.steps == ["effects sent"]

    world.writer.put(0, "b", {"n": 2})
    world.writer.handled(0, 2)
    await world.writer.write()

    assert await world.written() == [(0, b"0|a", {"n": 1}), (0, b"0|b", {"n": 2})]
    assert world.steps[2:] == [(0, 2)]


async def test_nothing_is_written_of_a_partition_that_was_closed(world: World) -> None:
    world.writer.put(0, "a", {})
    world.writer.put(1, "a", {})
    world.writer.handled(0, 1)
    world.log.failures = 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await world.writer.write()
    world.writer.put(0, "b", {})

    world.writer.close(0)
    await world.writer.write()

    assert await world.written() == [(1, b"1|a", {})]
    assert (0, 1) not in world.steps


async def test_a_document_that_is_too_large_is_omitted(world: World) -> None:
    world.writer.put(0, "a", {"text": "x" * 2 * LIMIT})
    world.writer.put(0, "b", {})
    world.writer.handled(0, 2)

    await world.writer.write()

    assert await world.written() == [(0, b"0|b", {})]
    assert world.steps[-1] == (0, 2)


async def test_the_documents_of_a_partition_are_read_back(world: World) -> None:
    world.writer.put(0, "a", {"n": 1})
    await world.writer.write()
    stored = {(each.key or b"").decode().partition("|")[2]: each.value for each in await world.changelog()}

    assert world.writer.open({0: stored}) == {0: {"a": {"n": 1}}}


async def test_changes_are_collected_for_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_writer, "COLLECT_SECONDS", 0.01)
    running = asyncio.create_task(world.writer.run())
    for n in range(3):
        world.writer.put(0, "a", {"n": n})
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while not world.steps:
            await asyncio.sleep(0.005)
    running.cancel()

    assert await world.written() == [(0, b"0|a", {"n": 2})]
