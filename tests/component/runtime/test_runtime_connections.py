"""Settings as the adapters get them."""

from __future__ import annotations

import pytest

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.core.errors import Misconfigured
from anabranch.ports import TopicSpec
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.connections import redis_url
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.topics import check_retention, ensure_topics, topic_specs


@pytest.mark.parametrize(
    ("url", "username", "password", "given"),
    [
        ("redis://h:1/2", None, None, "redis://h:1/2"),
        ("redis://h:1/2", None, "p@/:", "redis://:p%40%2F%3A@h:1/2"),
        ("rediss://h", "me", "x", "rediss://me:x@h"),
        ("rediss://old:older@h", None, "new", "rediss://old:new@h"),
    ],
)
def test_a_separately_set_user_goes_into_the_url(
    url: str, username: str | None, password: str | None, given: str
) -> None:
    settings = Settings(redis_url=url, redis_username=username, redis_password=password)

    assert redis_url(settings) == given


def test_each_topic_has_its_own_count_of_partitions() -> None:
    specs = topic_specs(Settings(partitions={"tasks": 7}, create_topics=False))

    counts = {spec.name: spec.partitions for spec in specs}
    assert counts["anabranch.tasks"] == 7
    assert counts["anabranch.tasks.default.high"] == 7
    assert counts["anabranch.dead-letters"] == 3


def test_topics_of_levels_are_created_ahead_only_where_services_may_not_create_them() -> None:
    level = "anabranch.tasks.gpu.high"

    assert level not in {spec.name for spec in topic_specs(Settings(pool="gpu"))}
    assert level in {spec.name for spec in topic_specs(Settings(pool="gpu", create_topics=False))}


async def test_existing_topics_are_used_as_they_are() -> None:
    settings = Settings()
    log = MemoryLog(MemoryBroker(), SystemClock())
    await log.create_topics([TopicSpec("anabranch.tasks", 2)])

    created = await ensure_topics(log, settings)

    assert len(created) == 7
    assert await log.partition_count("anabranch.tasks") == 2
    assert await ensure_topics(log, settings) == []


async def test_a_configured_partition_count_must_match_the_topic() -> None:
    log = MemoryLog(MemoryBroker(), SystemClock())
    await log.create_topics([TopicSpec("anabranch.tasks", 2)])

    with pytest.raises(Misconfigured, match=r"partitions_tasks: 5 is set, but the topic .* has 2"):
        await ensure_topics(log, Settings(partitions={"tasks": 5}))


@pytest.mark.parametrize(
    ("config", "refusal"),
    [
        ({}, None),
        ({"retention.ms": "-1", "retention.bytes": "1000"}, None),
        ({"retention.ms": str(7 * 86_400_000)}, None),
        ({"retention.ms": str(12 * 3_600_000)}, None),
        (
            {"retention.ms": str(11 * 3_600_000)},
            r"keeps records for 11 h, but owners append a snapshot .* every 6 h.*set its retention.ms to 43200000",
        ),
        ({"cleanup.policy": "compact,delete"}, "it is compacted"),
    ],
)
@pytest.mark.parametrize("topic", ["anabranch.runs", "anabranch.groups"])
async def test_a_retention_shorter_than_two_snapshot_intervals_is_refused(
    topic: str, config: dict[str, str], refusal: str | None
) -> None:
    log = MemoryLog(MemoryBroker(), SystemClock())
    await log.create_topics([TopicSpec(topic, 2, config)])
    await ensure_topics(log, Settings())

    if refusal is None:
        await check_retention(log, Settings())
    else:
        with pytest.raises(Misconfigured, match=refusal):
            await check_retention(log, Settings())


@pytest.mark.parametrize(("hours", "is_refused"), [(48, False), (47, True)])
async def test_without_snapshots_a_retention_shorter_than_a_run_is_refused(hours: int, is_refused: bool) -> None:
    log = MemoryLog(MemoryBroker(), SystemClock())
    await log.create_topics([TopicSpec("anabranch.runs", 2, {"retention.ms": str(hours * 3_600_000)})])
    settings = Settings(snapshot_idle=0.0)
    await ensure_topics(log, settings)

    if is_refused:
        with pytest.raises(Misconfigured, match=r"a run may take 24 h by default, and snapshots of runs are off"):
            await check_retention(log, settings)
    else:
        await check_retention(log, settings)
