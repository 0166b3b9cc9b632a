"""Behaviour of a real Kafka only: unavailable brokers, full buffers, removed group members, speed."""

from __future__ import annotations

import asyncio
import statistics
import threading

import pytest
from confluent_kafka import Producer
from servers.process import ServerHandle, free_port
from waiting import eventually

from anabranch.adapters.kafka.log import KafkaLog
from anabranch.core.errors import Misconfigured, ServerUnavailable
from anabranch.ports import Committed, Incoming, Outgoing, TopicSpec
from conformance.listeners import Recorder


async def test_an_unavailable_broker_is_named_with_the_fix(capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()

    with pytest.raises(ServerUnavailable) as refused:
        await KafkaLog.connect(f"127.0.0.1:{port}", timeout=1)

    assert f"127.0.0.1:{port}" in str(refused.value)
    assert "ANABRANCH_BROKERS" in str(refused.value)
    assert capfd.readouterr().err == ""


async def test_an_unknown_property_is_refused(kafka: str) -> None:
    with pytest.raises(Misconfigured, match=r"no\.such\.property"):
        await KafkaLog.connect(kafka, properties={"no.such.property": "1"})


async def test_a_tombstone_is_distinguished_from_an_empty_value_and_null_headers_stay(
    kafka: str, prefix: str
) -> None:
    log = await KafkaLog.connect(kafka)
    await log.create_topics([TopicSpec(f"{prefix}t", 1)])
    producer = Producer({"bootstrap.servers": kafka})
    for value in (None, b""):
        producer.produce(f"{prefix}t", value, b"k", headers=[("a", None), ("a", b""), ("a", b"1")])
    producer.flush(20)

    records: list[Incoming] = []
    async with log.read(f"{prefix}t", start="earliest") as reader, asyncio.timeout(20):
        async for batch in reader:
            records += batch
            if len(records) == 2:
                break
    await log.close()

    assert [(record.value, record.is_null) for record in records] == [(b"", True), (b"", False)]
    assert {record.headers for record in records} == {(("a", None), ("a", b""), ("a", b"1"))}


async def test_records_published_during_a_broker_outage_arrive_once_and_in_order(
    broker_process: ServerHandle, capfd: pytest.CaptureFixture[str]
) -> None:
    """The broker is killed between the first and the last publish, and is started again."""
    log = await KafkaLog.connect(broker_process.address)
    await log.create_topics([TopicSpec("t", 1)])
    listener = Recorder()
    await log.publish([Outgoing("t", "k", b"0")])
    membership = await log.join("g", ["t"], listener)
    await eventually(lambda: len(listener.records) == 1)

    broker_process.kill()
    pending = [asyncio.ensure_future(log.publish([Outgoing("t", "k", b"%d" % i)])) for i in range(1, 200)]
    broker_process.start()
    await asyncio.gather(*pending)
    await eventually(lambda: len({record.offset for record in listener.records}) >= 200, timeout=40)

    # A group that was away for longer than its session receives uncommitted records again.
    stored = {record.offset: int(record.value) for record in listener.records}
    assert [stored[offset] for offset in sorted(stored)] == list(range(200))
    await membership.close()
    await log.close()
    assert capfd.readouterr().err == ""


async def test_a_publish_that_is_not_acknowledged_in_time_fails(broker_process: ServerHandle) -> None:
    log = await KafkaLog.connect(broker_process.address, properties={"delivery.timeout.ms": "4000"})
    await log.create_topics([TopicSpec("t", 1)])
    await log.publish([Outgoing("t", "k", b"0")])

    broker_process.kill()
    with pytest.raises(ServerUnavailable, match="publishing to t"):
        await log.publish([Outgoing("t", "k", b"1")])

    broker_process.start()
    assert await log.publish([Outgoing("t", "k", b"2")]) == [1]
    await log.close()


async def test_a_full_buffer_holds_publishers_back_in_order(kafka: str, prefix: str) -> None:
    log = await KafkaLog.connect(kafka, properties={"queue.buffering.max.messages": "50"})
    topic = f"{prefix}t"
    await log.create_topics([TopicSpec(topic, 1)])
    calls = [
        log.publish([Outgoing(topic, None, b"%d" % (500 * call + i), partition=0) for i in range(500)])
        for call in range(6)
    ]

    offsets = await asyncio.gather(*calls)

    assert [offset for call in offsets for offset in call] == list(range(3_000))
    values: list[bytes] = []
    async with log.read(topic, start="earliest") as reader:
        async for batch in reader:
            values.extend(record.value for record in batch)
            if len(values) == 3_000:
                break
    assert [int(value) for value in values] == list(range(3_000))
    await log.close()


async def test_a_member_that_polls_too_rarely_loses_its_partitions_and_comes_back(kafka: str, prefix: str) -> None:
    """The consumer's thread is stopped for longer than max.poll.interval.ms, as in a frozen process."""
    log = await KafkaLog.connect(kafka, properties={"session.timeout.ms": "6000", "max.poll.interval.ms": "6000"})
    topic, thaw = f"{prefix}t", threading.Event()
    await log.create_topics([TopicSpec(topic, 2)])
    frozen, other = Recorder(on_revoked=lambda topic, partition: Committed(5, "never")), Recorder()
    await log.publish([Outgoing(topic, None, b"x", partition=partition) for partition in (0, 1)])
    membership = await log.join(f"{prefix}g", [topic], frozen)
    await eventually(lambda: len(frozen.records) == 2)

    membership._commands.submit(lambda consumer: thaw.wait(30))
    others = await log.join(f"{prefix}g", [topic], other)
    await eventually(lambda: len(other.owned) == 2)
    thaw.set()

    # A partition assigned before the group noticed the silence is revoked, the others are lost.
    await eventually(lambda: frozen.count("lost") + frozen.count("revoked") == 2)
    assert frozen.count("lost") >= 1
    await eventually(lambda: len(frozen.owned) == len(other.owned) == 1)
    assert other.committed == {0: None, 1: None}, "the commit of the frozen member was refused"
    await others.close()
    await membership.close()
    await log.close()


async def test_a_single_record_does_not_wait_for_a_batch(kafka: str, prefix: str) -> None:
    """The median from publish to delivery is about a millisecond on an idle machine; ten times that means that the
    client waits for a timeout."""
    log = await KafkaLog.connect(kafka)
    topic, arrived = f"{prefix}t", asyncio.Event()
    await log.create_topics([TopicSpec(topic, 1)])

    class Waking(Recorder):
        def deliver(self, topic: str, partition: int, records: list[Incoming]) -> None:  # type: ignore[override]
            super().deliver(topic, partition, records)
            arrived.set()

    listener, loop = Waking(), asyncio.get_running_loop()
    membership = await log.join(f"{prefix}g", [topic], listener)
    await eventually(lambda: listener.owned)
    seconds = []
    for i in range(60):
        arrived.clear()
        start = loop.time()
        publishing = asyncio.ensure_future(log.publish([Outgoing(topic, None, b"%d" % i)]))
        await arrived.wait()
        seconds.append(loop.time() - start)
        await publishing

    assert statistics.median(seconds) < 0.015
    await membership.close()
    await log.close()


async def test_commits_of_one_turn_share_a_request_and_the_last_one_counts(kafka: str, prefix: str) -> None:
    log = await KafkaLog.connect(kafka)
    topic, listener = f"{prefix}t", Recorder()
    await log.create_topics([TopicSpec(topic, 4)])
    await log.publish([Outgoing(topic, None, b"x", partition=i % 4) for i in range(400)])
    membership = await log.join(f"{prefix}g", [topic], listener)
    await eventually(lambda: len(listener.records) == 400)
    loop = asyncio.get_running_loop()

    start = loop.time()
    commits = [membership.commit(topic, p, Committed(i + 1)) for i in range(100) for p in range(4)]
    await asyncio.gather(*commits)

    assert loop.time() - start < 0.5
    assert await log.group_lag(f"{prefix}g", topic) == {0: 0, 1: 0, 2: 0, 3: 0}
    await membership.close()
    await log.close()


async def test_the_log_refuses_more_copies_of_a_topic_than_it_has_brokers(kafka: str, prefix: str) -> None:
    log = await KafkaLog.connect(kafka)
    with pytest.raises(ServerUnavailable, match=rf"creating topic {prefix}t.*eplication factor"):
        await log.create_topics([TopicSpec(f"{prefix}t", 1, replication_factor=3)])
    assert await log.create_topics([TopicSpec(f"{prefix}t", 1, replication_factor=1)]) == [f"{prefix}t"]
    await log.close()
