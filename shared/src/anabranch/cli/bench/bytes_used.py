"""What runs leave behind in bytes: on the log, as its brokers keep and send it, and in Redis under their keys.

On the log: everything between the ends of all topics of the prefix before and after, also of those that services
keep for themselves, fetched again and counted as it came over the wire, that is compressed and with the brokers'
framing, one replica. Whatever else happened on these topics meanwhile is in it, so nothing else should.

In Redis: the keys that carry the runs' ids, as MEMORY USAGE says once the runs have ended and the log is quiet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anabranch.cli.bench.shapes import Document
from anabranch.cli.bench.submitting import Asker, Ended
from anabranch.runtime.process.settings import Settings

if TYPE_CHECKING:
    from anabranch.adapters.kafka.config import KafkaSettings

QUIET_SECONDS = 1.0
LOOKS = 15

Ends = Mapping[str, Mapping[int, int]]
Spans = Mapping[int, tuple[int, int]]
"""Of each partition the first offset, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of `members` members: by topic (without prefix) on the log, and in Redis at the end."""

    members: int
    topics: Mapping[str, int]
    redis: int

    @property
    def log(self) -> int:
        return sum(self.topics.values())

    def to_document(self) -> dict[str, Any]:
        """The shape of `bytes` in `--json`."""
        return {
            "members": self.members,
            "log": self.log,
            "log_per_member": round(self.log / self.members, 1),
            "topics": dict(self.topics),
            "redis": self.redis,
            "redis_per_member": round(self.redis / self.members, 1),
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """For the table."""
        parts = ", ".join(f"{name} {count / self.members:,.1f}" for name, count in self.topics.items() if count)
        return [
            ("bytes a member on the log", f"{self.log / self.members:,.1f}", f"compressed, one replica: {parts}"),
            ("bytes a member in Redis", f"{self.redis / self.members:,.1f}", "keys of the runs, after their end"),
        ]


async def weighed(
    asking: Asker, documents: Sequence[Document], scales: Settings | None
) -> tuple[list[Ended], Weights | None]:
    """Ask for runs one after another; with `scales`, the settings of the servers, weigh what they leave."""
    if scales is None:
        return [await asking.ask(document) for document in documents], None
    before = await _quiet_ends(asking, scales)
    ended = [await asking.ask(document) for document in documents]
    after = await _quiet_ends(asking, scales)
    return ended, await _weigh(asking, ended, grown(before, after), scales)


async def _weigh(asking: Asker, ended: Sequence[Ended], spans: Mapping[str, Spans], scales: Settings) -> Weights:
    from anabranch.adapters.kafka.weighing import fetched_bytes
    from anabranch.adapters.redis.connection import RedisAddress
    from anabranch.adapters.redis.weighing import memory_of
    from anabranch.runtime.process.connections import redis_url

    kafka, prefix = _kafka(scales), asking.links.names.prefix
    topics = {
        topic.removeprefix(prefix): await asyncio.to_thread(fetched_bytes, kafka, topic, parts)
        for topic, parts in spans.items()
    }
    address = RedisAddress(redis_url(scales), scales.redis_ca_file)
    tags = [tag for each in ended for tag in (each.run_id, each.request_id)]
    return Weights(sum(each.members for each in ended), topics, await memory_of(address, tags))


def _kafka(scales: Settings) -> KafkaSettings:
    from anabranch.adapters.kafka.config import KafkaSettings

    return KafkaSettings(scales.brokers, scales.kafka_properties)


def grown(before: Ends, after: Ends) -> dict[str, Spans]:
    """For each topic the partitions that have new records: the first one's offset and the next one's."""
    return {
        topic: {part: (first, end) for part, end in ends.items() if end > (first := _first(before, topic, part))}
        for topic, ends in after.items()
    }


def _first(before: Ends, topic: str, partition: int) -> int:
    return before.get(topic, {}).get(partition, 0)


async def _quiet_ends(asking: Asker, scales: Settings) -> Ends:
    """The ends of all topics once nothing has been added for QUIET_SECONDS, or after so many looks."""
    ends = await _ends(asking, scales)
    for _ in range(LOOKS):
        await asyncio.sleep(QUIET_SECONDS)
        last, ends = ends, await _ends(asking, scales)
        if ends == last:
            break
    return ends


async def _ends(asking: Asker, scales: Settings) -> Ends:
    """Of the topics that are known, in the order of a run's way, then of those that services keep."""
    from anabranch.adapters.kafka.weighing import ends_under

    names = asking.links.names
    found = await asyncio.to_thread(ends_under, _kafka(scales), names.prefix)
    return {topic: found[topic] for topic in dict.fromkeys((*names.topics, *found))}
