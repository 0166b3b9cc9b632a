"""Chooses the lane of each offer, and its partition on the lane's topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from math import gcd, sqrt

from anabranch.core.lanes import DEFAULT_LANE, Lane
from anabranch.core.names import Names
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import Offer
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
    """Makes records of offers: the lane by the offer, the partition by turns.

    Args:
        lanes: the lanes that offers may go to.
    """

    def __init__(self, eventlog: EventLog, names: Names, lanes: Sequence[Lane] = (DEFAULT_LANE,)) -> None:
        self._log = eventlog
        self._topics = {lane: _Topic(names.tasks(lane), 1) for lane in lanes}

    async def start(self) -> None:
        """Read the number of partitions of each lane's topic.

        Raises:
            ServerUnavailable: the log does not answer.
        """
        for topic in self._topics.values():
            topic.partitions = await self._log.partition_count(topic.name)
            topic.stride = spread_stride(topic.partitions)

    async def record_limit(self) -> int:
        """Bytes that a record of every lane may have.

        Raises:
            ServerUnavailable: the log does not answer.
        """
        return min([await self._log.record_limit(topic.name) for topic in self._topics.values()])

    def lane_of(self, offer: Offer) -> Lane:
        """The lane of an offer: always the default one, because no request names a pool or a priority."""
        return DEFAULT_LANE

    def record(self, offered: Offered) -> Outgoing:
        """The record of an offer on the topic of its lane."""
        topic = self._topics[self.lane_of(offered.offer)]
        # An explicit partition: the partitioner of Kafka's clients keeps records without a key together for a
        # while, and the workers that read the other partitions would be idle.
        record = encode(offered.offer, offered.segments)
        return Outgoing(topic.name, None, record, partition=topic.next_partition())
