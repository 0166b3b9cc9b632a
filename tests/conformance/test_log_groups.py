"""Consumer groups, over every log."""

from __future__ import annotations

import asyncio

import pytest
from waiting import eventually, turns

from anabranch.core.errors import Misconfigured
from anabranch.ports import Committed, EventLog, Incoming, Outgoing
from conformance.clients import NewLog
from conformance.listeners import Recorder

ALL_FOUR = {0, 1, 2, 3}


def numbers(topic: str, start: int, stop: int, partition: int | None = None) -> list[Outgoing]:
    return [Outgoing(topic, f"k{i}", b"%d" % i, partition=partition) for i in range(start, stop)]


async def test_a_member_gets_every_record_of_every_partition(log: EventLog, topic: str, group: str) -> None:
    listener = Recorder()
    await log.publish(numbers(topic, 0, 50))
    membership = await log.join(group, [topic], listener)
    await log.publish(numbers(topic, 50, 100))

    await eventually(lambda: len(listener.records) >= 100)

    assert sorted(map(int, listener.values())) == list(range(100))
    for partition in ALL_FOUR:
        offsets = [record.offset for record in listener.records if record.partition == partition]
        assert offsets == list(range(len(offsets)))
    await membership.close()
    assert listener.stray == []


async def test_delivery_waits_until_assigned_returns(log: EventLog, topic: str, group: str) -> None:
    gate = asyncio.Event()

    class Slow(Recorder):
        async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
            if partition == 1:
                await gate.wait()
            return await super().assigned(topic, partition, committed)

    listener = Slow()
    await log.publish([Outgoing(topic, None, b"x", partition=partition) for partition in range(4)])
    membership = await log.join(group, [topic], listener)

    # A slow partition holds up nobody but itself.
    await eventually(lambda: {record.partition for record in listener.records} == ALL_FOUR - {1})
    gate.set()
    await eventually(lambda: {record.partition for record in listener.records} == ALL_FOUR)
    await membership.close()
    assert listener.stray == []


async def test_assigned_that_fails_is_tried_again(log: EventLog, topic: str, group: str) -> None:
    failures = [OSError("first"), OSError("second")]

    class Failing(Recorder):
        async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
            if failures and partition == 2:
                raise failures.pop()
            return await super().assigned(topic, partition, committed)

    listener = Failing()
    await log.publish(numbers(topic, 0, 1, partition=2))
    membership = await log.join(group, [topic], listener)

    await eventually(lambda: listener.values(2) == [b"0"])
    await membership.close()


async def test_what_was_not_committed_is_delivered_again(new_log: NewLog, topic: str, group: str) -> None:
    first, log = Recorder(), await new_log()
    await log.publish(numbers(topic, 0, 10, partition=1))
    membership = await log.join(group, [topic], first)
    await eventually(lambda: len(first.records) == 10)
    await membership.commit(topic, 1, Committed(6))
    await membership.close()

    second = Recorder()
    membership = await log.join(group, [topic], second)
    await eventually(lambda: len(second.records) == 4)

    assert second.values(1) == [b"6", b"7", b"8", b"9"]
    await membership.close()


async def test_a_member_is_confirmed_by_its_commits_until_it_leaves(log: EventLog, topic: str, group: str) -> None:
    listener = Recorder()
    membership = await log.join(group, [topic], listener)
    await eventually(lambda: len(listener.owned) == 4)

    assert await membership.confirm(topic, 2, Committed(0))
    assert membership.is_confirmed()
    await membership.close()
    assert not membership.is_confirmed()


async def test_metadata_beside_an_offset_comes_back(log: EventLog, topic: str, group: str) -> None:
    metadata = "größer " * 500
    first = Recorder()
    membership = await log.join(group, [topic], first)
    await eventually(lambda: len(first.owned) == 4)
    await membership.commit(topic, 3, Committed(0, metadata))
    await membership.close()

    second = Recorder()
    membership = await log.join(group, [topic], second)
    await eventually(lambda: len(second.owned) == 4)

    assert second.committed == {0: None, 1: None, 2: None, 3: Committed(0, metadata)}
    await membership.close()


async def test_too_much_metadata_is_refused(log: EventLog, topic: str, group: str) -> None:
    listener = Recorder()
    membership = await log.join(group, [topic], listener)
    await eventually(lambda: len(listener.owned) == 4)

    with pytest.raises(ValueError, match="4001 characters"):
        await membership.commit(topic, 0, Committed(0, "x" * 4_001))
    await membership.close()


async def test_the_listener_chooses_where_to_start(log: EventLog, topic: str, group: str) -> None:
    await log.publish(numbers(topic, 0, 10, partition=0))
    await log.publish(numbers(topic, 0, 10, partition=1))
    first = Recorder()
    membership = await log.join(group, [topic], first)
    await eventually(lambda: len(first.records) == 20)
    await asyncio.gather(*(membership.commit(topic, partition, Committed(8)) for partition in (0, 1)))
    await membership.close()

    second = Recorder(start=lambda partition, committed: 3 if partition == 0 else None)
    membership = await log.join(group, [topic], second)
    await eventually(lambda: len(second.records) == 9)

    assert second.values(0) == [b"%d" % i for i in range(3, 10)]
    assert second.values(1) == [b"8", b"9"]
    await membership.close()


async def test_what_revoked_returns_is_committed(log: EventLog, topic: str, group: str) -> None:
    first = Recorder()
    first.on_revoked = lambda topic, partition: Committed(first.next_offset(partition), "bye")
    await log.publish(numbers(topic, 0, 20))
    membership = await log.join(group, [topic], first)
    await eventually(lambda: len(first.records) == 20)
    await membership.close()

    second = Recorder()
    membership = await log.join(group, [topic], second)
    await eventually(lambda: len(second.owned) == 4)
    await log.publish(numbers(topic, 20, 21))
    await eventually(lambda: second.records)

    assert second.values() == [b"20"]
    assert {committed.metadata for committed in second.committed.values() if committed} == {"bye"}
    assert first.count("revoked") == 4
    assert first.count("lost") == 0
    await membership.close()


async def test_a_commit_for_a_partition_that_is_not_assigned_is_ignored(
    log: EventLog, topic: str, group: str
) -> None:
    await log.publish(numbers(topic, 0, 4, partition=0))
    first = Recorder()
    membership = await log.join(group, [topic], first)
    await eventually(lambda: len(first.records) == 4)
    await membership.close()

    await membership.commit(topic, 0, Committed(3))

    second = Recorder()
    membership = await log.join(group, [topic], second)
    await eventually(lambda: len(second.records) == 4)
    assert second.committed[0] is None
    await membership.close()


async def test_a_second_member_takes_half_and_nothing_is_lost(new_log: NewLog, topic: str, group: str) -> None:
    """Two members under load: no partition has two owners, and each record is delivered."""
    owners: dict[int, str] = {}
    clashes: list[tuple[int, str, str]] = []

    class Exclusive(Recorder):
        def __init__(self, name: str) -> None:
            super().__init__(on_revoked=self._leave)
            self.name = name

        async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
            if partition in owners:
                clashes.append((partition, owners[partition], self.name))
            owners[partition] = self.name
            return await super().assigned(topic, partition, committed)

        def _leave(self, topic: str, partition: int) -> Committed | None:
            del owners[partition]
            return Committed(self.next_offset(partition)) if self.next_offset(partition) else None

    one, two = Exclusive("one"), Exclusive("two")
    first, second = await new_log(), await new_log()
    membership_one = await first.join(group, [topic], one)
    await eventually(lambda: len(one.owned) == 4)
    await first.publish(numbers(topic, 0, 200))

    membership_two = await second.join(group, [topic], two)
    for start in range(200, 600, 50):
        await first.publish(numbers(topic, start, start + 50))
    await eventually(lambda: len(one.owned) == len(two.owned) == 2)
    await first.publish(numbers(topic, 600, 700))

    await eventually(lambda: len({*one.values(), *two.values()}) == 700)
    assert clashes == []
    # Cooperative: the two partitions that stayed were never taken away.
    assert one.count("revoked") == 2
    await membership_one.close()
    await eventually(lambda: len(two.owned) == 4)
    await membership_two.close()
    assert len(one.records) + len(two.records) == 700
    assert one.stray == two.stray == []


async def test_a_paused_partition_holds_its_records_and_the_others_go_on(
    log: EventLog, topic: str, group: str
) -> None:
    listener = Recorder()
    membership = await log.join(group, [topic], listener)
    await log.publish([Outgoing(topic, None, b"first", partition=partition) for partition in range(4)])
    await eventually(lambda: len(listener.records) == 4)

    membership.pause(topic, 0)
    await turns()
    # The second round proves that the pause has long taken effect: it is published after the first arrived.
    for value in (b"second", b"third"):
        await log.publish([Outgoing(topic, None, value, partition=partition) for partition in range(4)])
        await eventually(lambda value=value: sum(v == value for v in listener.values()) >= 3)
    assert b"third" not in listener.values(0)

    membership.resume(topic, 0)
    await eventually(lambda: listener.values(0) == [b"first", b"second", b"third"])
    await membership.close()


async def test_a_reassigned_partition_is_not_paused(new_log: NewLog, topic: str, group: str) -> None:
    one, two = Recorder(), Recorder()
    first, second = await new_log(), await new_log()
    membership_one = await first.join(group, [topic], one)
    await eventually(lambda: len(one.owned) == 4)
    for partition in ALL_FOUR:
        membership_one.pause(topic, partition)

    membership_two = await second.join(group, [topic], two)
    await eventually(lambda: len(one.owned) == len(two.owned) == 2)
    moved = {partition for _, partition in two.owned}
    await membership_two.close()
    await eventually(lambda: len(one.owned) == 4)
    await first.publish([Outgoing(topic, None, b"x", partition=partition) for partition in range(4)])

    await eventually(lambda: {record.partition for record in one.records} >= moved)
    assert {record.partition for record in one.records} == moved
    await membership_one.close()


async def test_lag_counts_from_the_committed_offset(log: EventLog, topic: str, group: str) -> None:
    await log.publish(numbers(topic, 0, 10, partition=0))
    await log.publish(numbers(topic, 0, 3, partition=1))
    listener = Recorder()
    membership = await log.join(group, [topic], listener)
    await eventually(lambda: len(listener.records) == 13)

    await membership.commit(topic, 0, Committed(7))

    assert await log.group_lag(group, topic) == {0: 3, 1: 3, 2: 0, 3: 0}
    await membership.close()


async def test_the_standing_of_a_group_has_commits_offsets_and_members(
    log: EventLog, topic: str, group: str
) -> None:
    await log.publish(numbers(topic, 0, 10, partition=0))
    nobody = await log.group_standing(group, topic, members=True)
    listener = Recorder()
    membership = await log.join(group, [topic], listener)
    await eventually(lambda: len(listener.records) == 10)
    await membership.commit(topic, 0, Committed(7, '{"a":1}'))

    found = await log.group_standing(group, topic, members=True)

    assert {(each.member, each.committed) for each in nobody.values()} == {(None, None)}
    assert (nobody[0].lag, found[0].lag, found[0].position, found[0].end) == (10, 3, 7, 10)
    assert found[0].committed == Committed(7, '{"a":1}')
    assert len({each.member for each in found.values()}) == 1
    assert None not in {each.member for each in found.values()}
    assert membership.unhealthy_reason() is None
    assert {each.member for each in (await log.group_standing(group, topic)).values()} == {None}, "not asked for"
    await membership.close()
    assert {each.member for each in (await log.group_standing(group, topic, members=True)).values()} == {None}


async def test_a_group_reads_several_topics(log: EventLog, topic: str, group: str, prefix: str) -> None:
    from anabranch.ports import TopicSpec

    other = f"{prefix}other"
    await log.create_topics([TopicSpec(other, 2)])
    listener = Recorder()
    membership = await log.join(group, [topic, other], listener)

    await log.publish([Outgoing(topic, None, b"a", partition=3), Outgoing(other, None, b"b", partition=1)])
    await eventually(lambda: len(listener.records) == 2)

    where = {(record.topic, record.partition, record.value) for record in listener.records}
    assert where == {(topic, 3, b"a"), (other, 1, b"b")}
    assert len(listener.owned) == 6
    await membership.close()


async def test_two_groups_get_every_record_each(log: EventLog, topic: str, group: str) -> None:
    one, two = Recorder(), Recorder()
    memberships = [await log.join(group, [topic], one), await log.join(f"{group}2", [topic], two)]

    await log.publish(numbers(topic, 0, 20))

    await eventually(lambda: len(one.records) == len(two.records) == 20)
    for membership in memberships:
        await membership.close()


async def test_joining_for_a_topic_that_does_not_exist_is_refused(log: EventLog, group: str) -> None:
    with pytest.raises(Misconfigured, match="does not exist"):
        await log.join(group, [f"{group}-nowhere"], Recorder())


async def test_a_listener_may_publish_and_commit_while_it_takes_over(
    log: EventLog, topic: str, group: str
) -> None:
    """As an owner does with its claim: it is durable before anything is delivered."""
    claims: dict[int, int] = {}

    class Claiming(Recorder):
        async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
            [claims[partition]] = await log.publish([Outgoing(topic, None, b"claim", partition=partition)])
            return await super().assigned(topic, partition, committed)

    listener = Claiming()
    membership = await log.join(group, [topic], listener)

    await eventually(lambda: len(listener.records) == 4)
    assert {record.partition: record.offset for record in listener.records} == claims
    await membership.close()


async def test_batches_are_in_order_and_without_gaps(log: EventLog, topic: str, group: str) -> None:
    batches: list[list[Incoming]] = []

    class Batches(Recorder):
        def deliver(self, topic: str, partition: int, records) -> None:  # type: ignore[no-untyped-def]
            batches.append(list(records))
            super().deliver(topic, partition, records)

    listener = Batches()
    await log.publish([Outgoing(topic, None, b"%d" % i, partition=0) for i in range(5_000)])
    membership = await log.join(group, [topic], listener)
    await eventually(lambda: len(listener.records) == 5_000)

    assert [record.offset for batch in batches for record in batch] == list(range(5_000))
    assert len(batches) < 500
    await membership.close()
