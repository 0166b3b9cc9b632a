"""A worker reads the topics of all levels of its pool, and begins their offers in order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from offer_lanes import HIGH, NAMES, Owner, Reader, noted, offered, ran, running
from waiting import eventually, eventually_true

from anabranch.core.errors import Misconfigured
from anabranch.core.lanes import Lane, Priority, lanes_of
from anabranch.core.wire.codec import encode
from anabranch.ports import Outgoing, TopicSpec
from anabranch.testing import System
from anabranch_taskgroup.owner.offer_router import READERS_SECONDS, SPLIT_SECONDS, OfferRouter
from anabranch_taskgroup.session.store_keys import claim_key
from anabranch_taskgroup.worker.offer_consumer import LEVELS_SECONDS


async def test_a_worker_runs_the_offers_of_all_levels_and_each_is_committed() -> None:
    reader = Reader(NAMES.topics_of_levels())
    await reader.start()
    wanted = [offered(f"{priority}-{n}", priority) for priority in ("low", "normal", "critical") for n in range(4)]
    await reader.publish(wanted)
    await reader.read(len(wanted))

    assert sorted(ran) == sorted(each.offer.task for each in wanted)
    for lane in lanes_of("default"):
        assert sum((await reader.log.group_lag(NAMES.tasks_group(lane), NAMES.tasks(lane))).values()) == 0


async def test_chunks_that_another_worker_has_take_no_turns_of_their_level() -> None:
    reader = Reader(NAMES.topics_of_levels())
    await reader.start()
    elsewhere = [offered(f"elsewhere-{n}", "low") for n in range(8)]
    await reader.resources.store.claim([claim_key(NAMES, each.offer) for each in elsewhere], "other", 60)
    high = [offered(f"high-{n}", "high") for n in range(60)]
    await reader.publish([*elsewhere, *(offered(f"low-{n}", "low") for n in range(8)), *high])
    await reader.read(68)

    # Its turn comes after 15 others. Some may begin before it is read.
    first = min(at for at, task in enumerate(ran) if task.startswith("low"))
    assert first <= 20, ran


async def test_where_levels_have_no_topics_their_offers_are_on_that_of_the_usual_level() -> None:
    reader = Reader([NAMES.tasks()])
    await reader.start()
    await reader.publish([offered("low", "low"), offered("urgent", "urgent")])
    await reader.read(2)

    assert sorted(ran) == ["low", "urgent"]


async def test_a_worker_of_a_pool_reads_only_its_pool() -> None:
    reader = Reader((*NAMES.topics_of_levels(), *NAMES.topics_of_levels("gpu")), "gpu")
    await reader.start()
    assert not reader.router.has_topic("gpu")
    assert await reader.router.look_again() == ["gpu"]
    await reader.publish([offered("plain"), offered("gpu", pool="gpu"), offered("gpu-high", "high", "gpu")])
    await reader.read(2)

    assert sorted(ran) == ["gpu", "gpu-high"]
    assert sum((await reader.log.group_lag(NAMES.tasks_group(), NAMES.tasks())).values()) == 1


async def test_an_offer_that_cannot_be_decoded_is_a_dead_letter_and_committed() -> None:
    reader = Reader(NAMES.topics_of_levels())
    await reader.start()
    await reader.log.create_topics([TopicSpec(NAMES.dead_letters, 1)])
    lane = Lane(priority="high")
    high = NAMES.tasks(lane)
    good = offered("good", "high")
    await reader.log.publish([Outgoing(high, None, b"no offer", partition=0)])
    await reader.log.publish([Outgoing(high, None, encode(good.offer, good.segments), partition=0)])
    await reader.read(1)

    assert sum((await reader.log.group_lag("nobody", NAMES.dead_letters)).values()) == 1
    assert sum((await reader.log.group_lag(NAMES.tasks_group(lane), high)).values()) == 0


# --- levels that come into use ---------------------------------------------------------------------


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anabranch_taskgroup.worker.offer_consumer.LEVELS_SECONDS", 0.01)


@pytest.mark.usefixtures("looks_often")
async def test_a_level_has_a_topic_and_readers_once_it_is_offered() -> None:
    async with running(Owner()) as found:
        assert not found.router.has_unsplit(0)
        assert await found.offer() == NAMES.tasks()
        assert found.router.has_unsplit(0)
        assert not await found.exists(HIGH)

        await found.router.split(0)
        await eventually_true(lambda: found.is_read(HIGH))
        assert await found.offer() == NAMES.tasks(), "other workers may not have found the topic"
        assert not found.router.has_unsplit(SPLIT_SECONDS - 1)
        assert found.router.has_unsplit(SPLIT_SECONDS)
        await found.router.split(READERS_SECONDS)

        assert await found.offer() == NAMES.tasks(HIGH)
        assert not found.router.has_unsplit(2 * READERS_SECONDS)
        assert await found.offer("normal") == NAMES.tasks()
        assert not await found.exists(Lane(priority="low"))


async def test_a_level_that_is_not_offered_any_more_is_not_looked_for() -> None:
    async with running(Owner()) as found:
        await found.offer()
        await found.router.split(0)

        assert not found.router.has_unsplit(READERS_SECONDS)
        assert await found.offer() == NAMES.tasks()


async def test_an_administrator_may_create_the_topic_of_a_level() -> None:
    async with running(Owner(create_topics=False)) as found:
        await found.offer()
        await found.router.split(0)
        assert not await found.exists(HIGH)
        await found.offer()
        await found.router.split(READERS_SECONDS)
        assert await found.offer() == NAMES.tasks()

        await found.log.create_topics([TopicSpec(NAMES.tasks(HIGH), 2)])
        await found.router.split(2 * READERS_SECONDS)
        assert await found.offer() == NAMES.tasks(), "workers have not found it yet"
        await found.router.split(3 * READERS_SECONDS)

        assert found.router.record(offered("x", "high")).topic == NAMES.tasks(HIGH)


async def test_the_offers_of_a_level_that_can_have_no_topic_are_on_the_usual_one() -> None:
    async with running(Owner()) as found:

        async def refuse(lane: Lane) -> bool:
            raise Misconfigured(f"topic {NAMES.tasks(lane)}", "it may not be created", "allow it")

        found.router = OfferRouter(found.log, NAMES, refuse)
        await found.router.start()
        assert await found.offer() == NAMES.tasks()
        await found.router.split(0)

        assert await found.offer() == NAMES.tasks()
        assert not found.router.has_unsplit(READERS_SECONDS), "it is not tried again"


@pytest.mark.usefixtures("looks_often")
async def test_offers_that_were_made_before_a_worker_finds_the_topic_of_their_level_run() -> None:
    """Another process has created the topic, and has died since."""
    async with running(Owner()) as found:
        await found.log.create_topics([TopicSpec(NAMES.tasks(HIGH), 2)])
        other = OfferRouter(found.log, NAMES)
        await other.start()
        records = [other.record(offered(f"high-{n}", "high")) for n in range(4)]
        assert {record.topic for record in records} == {NAMES.tasks(HIGH)}
        await found.log.publish(records)

        await eventually(lambda: len(ran) == 4)
        assert sorted(ran) == [f"high-{n}" for n in range(4)]


@pytest.mark.usefixtures("looks_often")
async def test_a_worker_that_stops_leaves_the_groups_of_all_levels() -> None:
    async with running(Owner()) as found:
        await found.log.create_topics([TopicSpec(NAMES.tasks(HIGH), 2)])
        await eventually_true(lambda: found.is_read(HIGH))
        await found.consumer.stop()

        assert not await found.is_read(HIGH)


def test_an_installation_has_the_topics_of_the_levels_in_use_only(anabranch_system: Callable[..., System]) -> None:
    s = anabranch_system(agents={"noted": noted})
    log, names = s.embedded.client.log, s.embedded.names
    # More members than fit in this process: some are offered on the log.
    rules = {"sequence": {"n": {"start": 1, "end": 200}}}
    task = {"name": "t", "agent": "noted", "expansion_config": {"type": "custom", "transform_rules": rules}}
    request = {"priority": "high", "task_groups": [{"name": "g", "tasks": [task]}]}

    async def offers_of(priority: Priority) -> int:
        """Offers of a level that are on its topic; -1 if it has none."""
        try:
            lag = await log.group_lag("nobody", names.tasks(Lane(priority=priority)))
        except Misconfigured:
            return -1
        return sum(lag.values())

    for _ in range(4):
        assert s.run(request, timeout=60).status == "completed"
        s.advance(LEVELS_SECONDS + 1)

    assert s.wait(offers_of("high")) > 0
    assert s.wait(offers_of("low")) == -1
