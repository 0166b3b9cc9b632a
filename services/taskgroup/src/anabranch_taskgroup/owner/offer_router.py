"""Chooses the lane of each offer, and its partition on the lane's topic."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import gcd, sqrt

from anabranch.core.errors import Misconfigured
from anabranch.core.lanes import DEFAULT_POOL, DEFAULT_PRIORITY, Lane, lanes_of
from anabranch.core.names import Names
from anabranch.core.wire.codec import encode
from anabranch.ports import EventLog, Outgoing
from anabranch_taskgroup.worker.offer_consumer import LEVELS_SECONDS
from anabranch_taskgroup.worker.offered import Offered

log = logging.getLogger(__name__)

GOLDEN_RATIO = (sqrt(5) - 1) / 2
SPLIT_SECONDS = 10.0
"""How often an owner looks for the topics of levels whose offers are on the topic of the usual level."""
READERS_SECONDS = 2 * LEVELS_SECONDS
"""From the time when an owner finds the topic of a level until it offers there: workers that run have joined."""


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

    The topic of the usual level of the default pool exists from the start, and the first worker of another pool
    creates that of its pool. Those of the other levels are created once they are in use, because a worker pays for
    each group that it joins. Until then, and until the workers that run have had the time to find the topic, the
    offers of a level are on the topic of the usual level, where workers order what they have read. An offer on the
    topic of a level is safe even if no worker reads it yet: a group begins with the first one.

    Args:
        ensure: has the topic of a lane created, where that is allowed, and returns whether it exists. None: it is
            not looked for again.
    """

    def __init__(
        self, eventlog: EventLog, names: Names, ensure: Callable[[Lane], Awaitable[bool]] | None = None
    ) -> None:
        self._log = eventlog
        self._names = names
        self._ensure = ensure
        self._unsplit: set[Lane] = set()
        """Lanes with offers on the topic of the usual level since they were looked for."""
        self._since: dict[Lane, float] = {}
        """When the topic of a lane was found that is not used yet, by the monotonic clock."""
        self._next_look = 0.0
        self._refused: set[Lane] = set()
        """Lanes whose topic cannot be created."""
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

    def has_unsplit(self, now: float) -> bool:
        """True if offers of a level were made on the topic of the usual one, and `split` should be called."""
        return bool(self._unsplit) and now >= self._next_look

    async def split(self, now: float) -> None:
        """Have topics created for the levels that are offered, and use those that workers have had time to find.

        Args:
            now: by the monotonic clock.

        Raises:
            ServerUnavailable: the log does not answer.
        """
        self._next_look = now + SPLIT_SECONDS
        for lane in sorted(self._unsplit, key=self._names.tasks):
            if await self._exists(lane):
                since = self._since.setdefault(lane, now)
                if now - since >= READERS_SECONDS and (topic := await self._topic(lane)) is not None:
                    self._topics[lane.pool, lane.priority] = topic
            # If its topic is not used yet, its next offer has it looked for again.
            self._unsplit.discard(lane)

    async def _exists(self, lane: Lane) -> bool:
        assert self._ensure is not None
        try:
            return await self._ensure(lane)
        except Misconfigured as error:
            self._refused.add(lane)
            log.warning(
                "taskgroup owner: offers of the level %s stay on the topic %s, because it can have none: %s",
                lane.priority,
                self._names.tasks(Lane(lane.pool)),
                error,
            )
            return False

    async def _find(self, pool: str) -> bool:
        usual = await self._topic(Lane(pool))
        if usual is None:
            return False
        found: dict[tuple[str, str], _Topic] = {}
        for lane in lanes_of(pool):
            is_usual = lane.priority == DEFAULT_PRIORITY
            found[pool, lane.priority] = usual if is_usual else await self._topic(lane) or usual
        self._topics.update(found)  # all at once: offers of a pool are made as soon as it has a topic here
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
        lane = Lane(offered.offer.pool, offered.offer.priority)
        topic = self._topics[lane.pool, lane.priority]
        if lane.priority != DEFAULT_PRIORITY and topic is self._topics[lane.pool, DEFAULT_PRIORITY]:
            self._note_unsplit(lane)
        # An explicit partition: the partitioner of Kafka's clients keeps records without a key together for a
        # while, and the workers that read the other partitions would be idle.
        record = encode(offered.offer, offered.segments)
        return Outgoing(topic.name, None, record, partition=topic.next_partition())

    def _note_unsplit(self, lane: Lane) -> None:
        if self._ensure is not None and lane not in self._refused:
            self._unsplit.add(lane)
