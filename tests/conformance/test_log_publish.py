"""Publishing and reading without a group, over every log."""

from __future__ import annotations

import asyncio

import pytest

from anabranch.core.errors import Misconfigured, RecordTooLarge
from anabranch.ports import EventLog, Incoming, Outgoing, Reader, TopicSpec

# The Java client's `Utils.toPositive(Utils.murmur2(key)) % 12` for these keys.
KEYS = ["", "a", "ab", "abc", "abcd", "run-1", "session-42", "Zürich", "鍵", "x" * 200]


async def take(reader: Reader, count: int) -> list[Incoming]:
    """The next `count` records, or more where a batch goes over."""
    taken: list[Incoming] = []
    async with asyncio.timeout(20):
        async for batch in reader:
            assert batch, "a batch has at least one record"
            taken.extend(batch)
            if len(taken) >= count:
                break
    return taken


async def test_records_of_a_partition_keep_the_order_of_publishing(log: EventLog, topic: str) -> None:
    async with log.read(topic) as reader:
        calls = [
            log.publish([Outgoing(topic, "one key", b"%d" % (10 * call + i)) for i in range(10)])
            for call in range(50)
        ]
        offsets = await asyncio.gather(*calls)
        records = await take(reader, 500)

    assert [int(record.value) for record in records] == list(range(500))
    assert [offset for call in offsets for offset in call] == [record.offset for record in records]


async def test_publish_returns_the_offset_of_each_record(log: EventLog, topic: str) -> None:
    records = [Outgoing(topic, None, b"%d" % i, partition=i % 4) for i in range(8)]

    offsets = await log.publish(records)

    assert offsets == [0, 0, 0, 0, 1, 1, 1, 1]


async def test_a_record_comes_back_as_it_was_sent(log: EventLog, topic: str) -> None:
    headers = {"ce_id": b"r/final", "empty": b"", "ü": "ß".encode()}
    await log.publish([Outgoing(topic, "schlüssel", b"\x00\xff", headers), Outgoing(topic, None, b"")])

    async with log.read(topic, start="earliest") as reader:
        records = {record.key: record for record in await take(reader, 2)}

    keyed = records["schlüssel".encode()]
    assert (keyed.topic, keyed.value) == (topic, b"\x00\xff")
    assert dict(keyed.headers) == headers
    assert keyed.timestamp > 1_700_000_000
    assert records[None].value == b""


async def test_headers_keep_their_order_doubles_and_nulls_and_a_key_may_be_binary(
    log: EventLog, topic: str
) -> None:
    headers = (("b", b"1"), ("a", None), ("b", b"2"), ("a", b""), ("c", b""))
    await log.publish([Outgoing(topic, b"\xff\x00", b"v", headers)])

    async with log.read(topic, start="earliest") as reader:
        [record] = await take(reader, 1)

    assert (record.key, record.headers, record.is_null) == (b"\xff\x00", headers, False)


async def test_a_null_value_is_not_an_empty_one(log: EventLog, topic: str) -> None:
    await log.publish([Outgoing(topic, "k", b"", is_null=True), Outgoing(topic, "k", b"")])

    async with log.read(topic, start="earliest") as reader:
        records = await take(reader, 2)

    assert [(record.value, record.is_null) for record in records] == [(b"", True), (b"", False)]


async def test_a_key_in_bytes_has_the_partition_of_its_text(log: EventLog, prefix: str) -> None:
    topic = f"{prefix}bytes"
    await log.create_topics([TopicSpec(topic, 12)])

    await log.publish([Outgoing(topic, key.encode(), key.encode()) for key in KEYS])
    async with log.read(topic, start="earliest") as reader:
        seen = {record.value.decode(): record.partition for record in await take(reader, len(KEYS))}

    assert seen == {key: await log.partition_for(topic, key) for key in KEYS}


async def test_keys_have_the_partitions_of_the_java_client(log: EventLog, prefix: str) -> None:
    topic = f"{prefix}keys"
    await log.create_topics([TopicSpec(topic, 12)])

    await log.publish([Outgoing(topic, key, key.encode()) for key in KEYS])
    async with log.read(topic, start="earliest") as reader:
        seen = {record.value.decode(): record.partition for record in await take(reader, len(KEYS))}

    assert seen == {key: await log.partition_for(topic, key) for key in KEYS}
    assert seen["abc"] == 479_470_107 % 12


async def test_a_record_over_the_limit_is_refused_and_nothing_is_appended(log: EventLog, topic: str) -> None:
    with pytest.raises(RecordTooLarge, match=r"1,100,\d\d\d"):
        await log.publish([Outgoing(topic, "k", b"small"), Outgoing(topic, "k", bytes(1_100_000))])

    async with log.read(topic) as reader:
        assert set((await reader.end_offsets()).values()) == {0}


async def test_a_record_of_a_million_bytes_fits(log: EventLog, topic: str) -> None:
    value = bytes(range(256)) * 3_906 + bytes(64)
    assert len(value) == 1_000_000

    await log.publish([Outgoing(topic, "k", value, {"ce_id": b"1"})])

    async with log.read(topic, start="earliest") as reader:
        assert (await take(reader, 1))[0].value == value


async def test_a_reader_at_the_latest_sees_only_what_comes_after_it(log: EventLog, topic: str) -> None:
    await log.publish([Outgoing(topic, "k", b"before")])

    async with log.read(topic) as reader:
        await log.publish([Outgoing(topic, "k", b"after")])

        assert [record.value for record in await take(reader, 1)] == [b"after"]


async def test_a_reader_starts_at_an_offset_of_one_partition(log: EventLog, topic: str) -> None:
    await log.publish([Outgoing(topic, None, b"%d" % i, partition=2) for i in range(10)])

    async with log.read(topic, partitions=[2], start=7) as reader:
        assert [record.value for record in await take(reader, 3)] == [b"7", b"8", b"9"]
        assert await reader.end_offsets() == {2: 10}


async def test_two_readers_do_not_share_records(log: EventLog, topic: str) -> None:
    async with log.read(topic) as first, log.read(topic) as second:
        await log.publish([Outgoing(topic, "k", b"1")])

        assert len(await take(first, 1)) == len(await take(second, 1)) == 1


async def test_topics_are_created_once(log: EventLog, prefix: str) -> None:
    specs = [TopicSpec(f"{prefix}a", 3, {"retention.ms": "86400000"}), TopicSpec(f"{prefix}b", 1)]

    assert await log.create_topics(specs[:1]) == [f"{prefix}a"]
    assert await log.create_topics(specs) == [f"{prefix}b"]
    assert await log.partition_count(f"{prefix}a") == 3
    assert (await log.topic_settings(f"{prefix}a"))["retention.ms"] == "86400000"


async def test_another_partition_count_is_refused(log: EventLog, topic: str) -> None:
    with pytest.raises(Misconfigured, match="has 4 partitions"):
        await log.create_topics([TopicSpec(topic, 5)])


async def test_a_topic_that_does_not_exist_is_refused(log: EventLog, prefix: str) -> None:
    with pytest.raises(Misconfigured, match="does not exist"):
        await log.partition_count(f"{prefix}nowhere")
    with pytest.raises(Misconfigured, match="does not exist"):
        async with log.read(f"{prefix}nowhere"):
            raise AssertionError("unreachable")


async def test_publishing_nothing_returns_nothing(log: EventLog) -> None:
    assert list(await log.publish([])) == []
