"""Measures the bytes that runs occupy on the log and in Redis.

On the log: all records that were added to any topic with the prefix, fetched again and counted as they are on the
wire: compressed, with the brokers' framing, one replica. Records of other runs are counted too, so nothing else
should use the system meanwhile.

In Redis: the keys that contain the runs' ids, as reported by MEMORY USAGE once the runs have ended and no topic
grows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anabranch.cli.bench.client import BenchClient, MeasuredRun
from anabranch.cli.bench.shapes import Document
from anabranch.runtime.process.settings import Settings

if TYPE_CHECKING:
    from anabranch.adapters.kafka.config import KafkaSettings

IDLE_SECONDS = 1.0
"""Seconds without a new record after which the log counts as idle."""
MAX_POLLS = 15
"""Maximum number of waits for an idle log; the measurement continues afterwards in any case."""

Ends = Mapping[str, Mapping[int, int]]
Spans = Mapping[int, tuple[int, int]]
"""First offset and the offset after the last, by partition."""


@dataclass(frozen=True, slots=True)
class ByteUsage:
    """Bytes of `members` members: on the log by topic (without prefix), and in Redis after the runs' end."""

    members: int
    topics: Mapping[str, int]
    redis: int

    @property
    def log(self) -> int:
        return sum(self.topics.values())

    def to_document(self) -> dict[str, Any]:
        """The field `bytes` of `--json`."""
        return {
            "members": self.members,
            "log": self.log,
            "log_per_member": round(self.log / self.members, 1),
            "topics": dict(self.topics),
            "redis": self.redis,
            "redis_per_member": round(self.redis / self.members, 1),
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """Rows of the table: name, figure, remark."""
        parts = ", ".join(f"{name} {count / self.members:,.1f}" for name, count in self.topics.items() if count)
        return [
            ("bytes per member, log", f"{self.log / self.members:,.1f}", f"compressed, one replica: {parts}"),
            ("bytes per member, Redis", f"{self.redis / self.members:,.1f}", "keys of the runs, after their end"),
        ]


async def run_measuring_bytes(
    client: BenchClient, documents: Sequence[Document], servers: Settings | None
) -> tuple[list[MeasuredRun], ByteUsage | None]:
    """Run requests one after another; with `servers`, the settings of the servers, also measure their bytes."""
    if servers is None:
        return [await client.run(document) for document in documents], None
    # Records of earlier runs may still arrive, such as events: they must not count for these runs.
    before = await _idle_ends(client, servers)
    ended = [await client.run(document) for document in documents]
    after = await _idle_ends(client, servers)
    return ended, await _measure_bytes(client, ended, new_records(before, after), servers)


async def _measure_bytes(
    client: BenchClient, ended: Sequence[MeasuredRun], spans: Mapping[str, Spans], servers: Settings
) -> ByteUsage:
    from anabranch.adapters.kafka.weighing import fetched_bytes
    from anabranch.adapters.redis.connection import RedisAddress
    from anabranch.adapters.redis.weighing import memory_of
    from anabranch.runtime.process.connections import redis_url

    kafka, prefix = _kafka(servers), client.links.names.prefix
    topics = {
        topic.removeprefix(prefix): await asyncio.to_thread(fetched_bytes, kafka, topic, parts)
        for topic, parts in spans.items()
    }
    address = RedisAddress(redis_url(servers), servers.redis_ca_file)
    tags = [tag for each in ended for tag in (each.run_id, each.request_id)]
    return ByteUsage(sum(each.members for each in ended), topics, await memory_of(address, tags))


def _kafka(servers: Settings) -> KafkaSettings:
    from anabranch.adapters.kafka.config import KafkaSettings

    return KafkaSettings(servers.brokers, servers.kafka_properties)


def new_records(before: Ends, after: Ends) -> dict[str, Spans]:
    """For each topic, the partitions with new records and the range of their offsets."""
    return {
        topic: {part: (first, end) for part, end in ends.items() if end > (first := _first(before, topic, part))}
        for topic, ends in after.items()
    }


def _first(before: Ends, topic: str, partition: int) -> int:
    return before.get(topic, {}).get(partition, 0)


async def _idle_ends(client: BenchClient, servers: Settings) -> Ends:
    """End offsets of all topics once the log is idle, or after MAX_POLLS waits."""
    ends = await _ends(client, servers)
    for _ in range(MAX_POLLS):
        await asyncio.sleep(IDLE_SECONDS)
        last, ends = ends, await _ends(client, servers)
        if ends == last:
            break
    return ends


async def _ends(client: BenchClient, servers: Settings) -> Ends:
    """End offsets: first of the public topics, in the order in which a run uses them, then of internal topics."""
    from anabranch.adapters.kafka.weighing import ends_under

    names = client.links.names
    found = await asyncio.to_thread(ends_under, _kafka(servers), names.prefix)
    return {topic: found[topic] for topic in dict.fromkeys((*names.topics, *found))}
