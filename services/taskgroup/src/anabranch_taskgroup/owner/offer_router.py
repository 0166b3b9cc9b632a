"""Chooses the lane of each offer, and its partition on the lane's topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from math import gcd, sqrt

from anabranch.core.errors import Misconfigured
from anabranch.core.lanes import DEFAULT_POOL, DEFAULT_PRIORITY, Lane, lanes_of
from anabranch.core.names import Names
from anabranch.core.wire.codec import encode
from anabranch.ports import EventLog, Outgoing
from anabranch_taskgroup.worker.offered import Offered

GOLDEN_RATIO = (sqrt(5) - 1) / 2


@dataclass(slots=True)
class _Topic:
    """The topic of a lane, and the number of offers that it got from this process."""

    name: str
    partitions: int
    turns: count[int] = field(default_factory=count)
    stride: int = 1

    def next_partition(self) -> int:
        return next(self.turns) * self.stride % self.partitions


def spread_stride(partitions: int) -> int:
    """The distance from the partition of one offer to that of the next, such that all partitions have their turn,
    and a few offers in a row are spread over all of them.

    A worker often reads adjacent partitions. If the offers went to the partitions in ascending order, one worker
    would get all offers of a small task, and a chunk that it returns because it lacks the agent many times.

    The multiples of the golden ratio are spread most evenly, see Knuth, The Art of Computer Programming 3, 6.4.
    """
    wanted = round(partitions * GOLDEN_RATIO)
    return min(
        (each for each in range(1, partitions + 1) if gcd(each, partitions) == 1),
        key=lambda each: abs(each - wanted),
    )


class OfferRouter:
    """Makes records of offers: the topic by the pool and the level, the partition by turns.

    The topics of the default pool exist from the start, except for those of levels where an administrator creates
    topics and has not created them. The first worker of another pool creates those of its pool.
    """

    def __init__(self, eventlog: EventLog, names: Names) -> None:
        self._log = eventlog
        self._names = names
        self._topics: dict[tuple[str, str], _Topic] = {}
        """By pool and level. A level without a topic has that of `normal`."""
        self._missing: set[str] = set()
        """Pools without topics, which no worker has joined yet."""

    async def start(self) -> None:
        """Find the topics of the default pool.

        Raises:
            Misconfigured: it has none.
            ServerUnavailable: the log does not answer.
        """
        if not await self._find(DEFAULT_POOL):
            await self._log.partition_count(self._names.tasks())  # raises what is wrong

    async def look_again(self) -> Sequence[str]:
        """Look for the topics of pools that had none. Returns the pools that have some now.

        Raises:
            ServerUnavailable: the log does not answer.
        """
        found = [pool for pool in self._missing if await self._find(pool)]
        self._missing.difference_update(found)
        return found

    async def _find(self, pool: str) -> bool:
        usual = await self._topic(Lane(pool))
        if usual is None:
            return False
        for lane in lanes_of(pool):
            self._topics[pool, lane.priority] = await self._topic(lane) or usual
        return True

    async def _topic(self, lane: Lane) -> _Topic | None:
        name = self._names.tasks(lane)
        try:
            partitions = await self._log.partition_count(name)
        except Misconfigured:
            return None
        return _Topic(name, partitions, stride=spread_stride(partitions))

    async def record_limit(self) -> int:
        """Bytes that a record of every lane may have.

        Raises:
            ServerUnavailable: the log does not answer.
        """
        names = {topic.name for topic in self._topics.values()}
        return min([await self._log.record_limit(name) for name in sorted(names)])

    def has_topic(self, pool: str) -> bool:
        """True if offers of a pool can be published: a worker of it has been there. Else `look_again` looks for
        one."""
        if (pool, DEFAULT_PRIORITY) in self._topics:
            return True
        self._missing.add(pool)
        return False

    def record(self, offered: Offered) -> Outgoing:
        """The record of an offer on the topic of its lane, which exists."""
        topic = self._topics[offered.offer.pool, offered.offer.priority]
        # An explicit partition: the partitioner of Kafka's clients keeps records without a key together for a
        # while, and the workers that read the other partitions would be idle.
        record = encode(offered.offer, offered.segments)
        return Outgoing(topic.name, None, record, partition=topic.next_partition())
