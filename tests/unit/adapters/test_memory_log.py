"""Tests that need the log in memory: crashes, zombies, retention and trimming, speed without servers."""

from __future__ import annotations

import asyncio

import pytest
from counted_work import calls_of
from waiting import eventually, turns

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.core.errors import ServerUnavailable
from anabranch.ports import Committed, Outgoing, TopicSpec
from conformance.listeners import Recorder

CALLS = 60
"""Twice the calls for one record, published and read."""


class StoppedClock:
    """Time that the test moves."""

    def __init__(self, at: float = 1_000.0) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


async def given_topic(broker: MemoryBroker, partitions: int = 2) -> MemoryLog:
    log = MemoryLog(broker, StoppedClock())
    await log.create_topics([TopicSpec("t", partitions)])
    return log


def record(value: bytes, partition: int = 0) -> Outgoing:
    return Outgoing("t", None, value, partition=partition)


async def test_records_carry_the_clocks_time() -> None:
    broker, clock = MemoryBroker(), StoppedClock(1_234.5)
    log = MemoryLog(broker, clock)
    await log.create_topics([TopicSpec("t", 1)])
    await log.publish([record(b"x")])

    async with log.read("t", start="earliest") as reader:
        async for batch in reader:
            assert batch[0].timestamp == 1_234.5
            break


async def test_after_a_crash_others_take_over_from_the_committed_offset() -> None:
    broker = MemoryBroker()
    crashing, surviving = await given_topic(broker), MemoryLog(broker, StoppedClock())
    one, two = Recorder(), Recorder()
    membership = await crashing.join("g", ["t"], one)
    await crashing.publish([record(b"%d" % i) for i in range(4)])
    await eventually(lambda: len(one.records) == 4)
    await membership.commit("t", 0, Committed(1, "open at 0"))

    crashing.crash()
    await surviving.join("g", ["t"], two)
    await eventually(lambda: len(two.records) == 3)

    assert two.values() == [b"1", b"2", b"3"]
    assert two.committed[0] == Committed(1, "open at 0")
    assert one.count("revoked") == one.count("lost") == 0
    await surviving.close()


async def test_the_members_of_a_crashed_client_expire_after_the_session_timeout() -> None:
    broker = MemoryBroker(session_timeout=0.05)
    crashing, surviving = await given_topic(broker), MemoryLog(broker, StoppedClock())
    one, two = Recorder(), Recorder()
    await crashing.join("g", ["t"], one)
    await eventually(lambda: len(one.owned) == 2)
    loop = asyncio.get_running_loop()

    crashed_at = loop.time()
    crashing.crash()
    await surviving.join("g", ["t"], two)
    await turns()
    assert not two.owned
    await eventually(lambda: len(two.owned) == 2)

    assert loop.time() - crashed_at >= 0.05
    await surviving.close()


async def test_a_crashed_client_refuses_everything() -> None:
    log = await given_topic(MemoryBroker())
    listener = Recorder()
    membership = await log.join("g", ["t"], listener)
    await eventually(lambda: len(listener.owned) == 2)

    log.crash()

    with pytest.raises(ServerUnavailable, match="it has crashed"):
        await log.publish([record(b"x")])
    with pytest.raises(ServerUnavailable, match="crashed"):
        await membership.commit("t", 0, Committed(0))


async def test_a_zombie_learns_that_it_lost_its_partitions_and_joins_again() -> None:
    broker = MemoryBroker()
    sleeping, waiting = await given_topic(broker), MemoryLog(broker, StoppedClock())
    zombie, other = Recorder(), Recorder()
    await sleeping.join("g", ["t"], zombie)
    await eventually(lambda: len(zombie.owned) == 2)
    await waiting.join("g", ["t"], other)
    await eventually(lambda: len(other.owned) == 1)

    sleeping.expire()
    await eventually(lambda: zombie.count("lost") == 1 and zombie.owned)
    await sleeping.publish([record(b"%d" % i, partition=i) for i in range(2)])
    await eventually(lambda: len(zombie.records) + len(other.records) == 2)

    assert zombie.count("revoked") == 1, "only what it handed to the other, never what it lost"
    assert len(zombie.owned) == len(other.owned) == 1
    await sleeping.close()
    await waiting.close()


async def test_closing_while_a_partition_is_taken_over_drops_it() -> None:
    log = await given_topic(MemoryBroker())

    class Endless(Recorder):
        async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
            self.calls.append(("assigned", partition))
            await asyncio.Event().wait()
            return None

    listener = Endless()
    membership = await log.join("g", ["t"], listener)
    await eventually(lambda: len(listener.calls) == 2)

    await membership.close()

    assert sorted(listener.calls) == [("assigned", 0), ("assigned", 1), ("lost", 0), ("lost", 1)]


async def test_a_listener_that_fails_on_revocation_commits_nothing_and_releases_its_partitions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = MemoryBroker()
    log = await given_topic(broker)

    class Broken(Recorder):
        async def revoked(self, topic: str, partition: int) -> Committed | None:
            raise OSError("disk")

    listener = Broken()
    membership = await log.join("g", ["t"], listener)
    await eventually(lambda: len(listener.owned) == 2)

    await membership.close()

    assert broker.group("g").committed == {}
    assert broker.group("g").owners == {}
    assert "nothing is committed" in caplog.text


async def test_trimmed_records_are_gone_and_readers_continue_after_them() -> None:
    broker = MemoryBroker()
    log = await given_topic(broker)
    await log.publish([record(b"%d" % i) for i in range(10)])

    broker.trim("t", 0, 6)

    listener = Recorder()
    membership = await log.join("g", ["t"], listener)
    await eventually(lambda: len(listener.records) == 4)
    assert [kept.offset for kept in listener.records] == [6, 7, 8, 9]
    assert await log.publish([record(b"next")]) == [10]
    await membership.close()


async def test_retention_bounds_the_bytes_kept() -> None:
    broker = MemoryBroker(retention_bytes=10_000)
    log = await given_topic(broker)

    for i in range(500):
        await log.publish([record(bytes(100))])
        assert broker.partition(("t", 0)).bytes_kept <= 10_000, i

    partition = broker.partition(("t", 0))
    assert partition.end == 500
    assert partition.first > 390


def test_a_record_passes_with_few_calls() -> None:
    async def pass_records(count: int) -> None:
        broker = MemoryBroker()
        log = await given_topic(broker, partitions=8)
        listener = Recorder()
        membership = await log.join("g", ["t"], listener)
        await eventually(lambda: len(listener.owned) == 8)
        for batch in range(count // 100):
            await log.publish([Outgoing("t", f"run-{batch}-{i}", b"x" * 90) for i in range(100)])
        await eventually(lambda: len(listener.records) == count)
        await membership.close()

    few, many = (calls_of(lambda count=count: asyncio.run(pass_records(count))) for count in (1_000, 11_000))

    assert (many - few) / 10_000 < CALLS
