"""Topics of levels that come into use, and the groups of the workers that read them, on a real Kafka."""

from __future__ import annotations

import pytest
from offer_lanes import HIGH, Owner, offered, ran, running
from waiting import eventually, eventually_true

from anabranch.adapters.kafka.log import KafkaLog
from anabranch.core.names import Names
from anabranch_taskgroup.owner.offer_router import OfferRouter


@pytest.fixture(autouse=True)
def _looks_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anabranch_taskgroup.worker.offer_consumer.LEVELS_SECONDS", 1.0)


async def test_no_offer_is_lost_that_was_made_before_a_worker_reads_its_level(kafka: str, prefix: str) -> None:
    log, names = await KafkaLog.connect(kafka), Names(prefix)
    async with running(Owner(names=names, log=log)) as found:
        assert await found.offer() == names.tasks()
        assert not await found.exists(HIGH)
        await found.router.split(0)
        assert await found.exists(HIGH)
        # An owner that starts now finds the topic, and uses it at once; the worker of this test looks later.
        other = OfferRouter(log, names)
        await other.start()
        records = [other.record(offered(f"early-{n}", "high")) for n in range(20)]
        assert {record.topic for record in records} == {names.tasks(HIGH)}
        await log.publish(records)

        await eventually(lambda: len(ran) == 21)
        assert await found.is_read(HIGH)

        async def nothing_left() -> bool:
            return not sum((await log.group_lag(names.tasks_group(HIGH), names.tasks(HIGH))).values())

        await eventually_true(nothing_left)
    assert sorted(ran) == sorted(["t-1", *(f"early-{n}" for n in range(20))])
    await log.close()


async def test_a_worker_that_starts_later_goes_on_where_the_others_of_a_level_ended(
    kafka: str, prefix: str
) -> None:
    log, names = await KafkaLog.connect(kafka), Names(prefix)
    async with running(Owner(names=names, log=log)) as found:
        await found.offer()
        await found.router.split(0)
        await eventually_true(lambda: found.is_read(HIGH))
    assert not await found.is_read(HIGH)
    owner = OfferRouter(log, names)
    await owner.start()
    await log.publish([owner.record(offered(f"unread-{n}", "high")) for n in range(20)])

    async with running(Owner(names=names, log=log)):
        await eventually(lambda: len(ran) == 20)  # none of the first worker again
    assert sorted(ran) == sorted(f"unread-{n}" for n in range(20))
    await log.close()
