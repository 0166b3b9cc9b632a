"""Publishes small records to a topic whose size limit is below the batch size of a producer."""

from __future__ import annotations

import asyncio

from anabranch.adapters.kafka.log import KafkaLog
from anabranch.ports import Outgoing, TopicSpec


async def test_many_records_that_fit_one_by_one_are_accepted_together(kafka: str, prefix: str) -> None:
    """A broker refuses a batch over the topic's limit, even if each record is small."""
    log = await KafkaLog.connect(kafka)
    topic = f"{prefix}t"
    await log.create_topics([TopicSpec(topic, 1, {"max.message.bytes": "60000"})])
    assert await log.record_limit(topic) < 60_000
    records = [Outgoing(topic, "k", bytes(f"{number:04}", "ascii") + _noise(number)) for number in range(200)]

    offsets = await asyncio.gather(*(log.publish(records[at : at + 20]) for at in range(0, 200, 20)))
    await log.close()

    assert [offset for found in offsets for offset in found] == list(range(200))


def _noise(seed: int) -> bytes:
    """Bytes that do not compress."""
    import random

    return random.Random(seed).randbytes(3_900)
