"""One membership of a consumer group for several topics, each with a listener of its own.

A member for each topic would be a client with connections and threads of its own, and members that subscribe to
different topics would have the group rebalance for each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from anabranch.ports import Committed, EventLog, Incoming, Membership, PartitionListener


class JointGroup:
    """Joins once each of `topics` has a listener. A `PartitionListener` that hands on to that of the topic."""

    def __init__(self, eventlog: EventLog, topics: Collection[str]) -> None:
        self._log = eventlog
        self._topics = topics
        self._listeners: dict[str, PartitionListener] = {}
        self._open: set[str] = set()
        """The topics whose listener takes part."""
        self._membership: Membership | None = None
        self._changing = asyncio.Lock()

    async def join(self, group: str, topics: Sequence[str], listener: PartitionListener) -> Membership:
        """As `EventLog.join`, for one of the topics. Its listener is called once all topics have one.

        A listener that joins again begins again with all topics: the others' partitions are revoked and assigned
        again.
        """
        [topic] = topics
        async with self._changing:
            self._listeners[topic] = listener
            self._open.add(topic)
            if len(self._listeners) == len(self._topics):
                await self._leave()
                self._membership = await self._log.join(group, sorted(self._topics), self)
        return TopicShare(self, topic)

    async def leave(self, topic: str) -> None:
        """Leave the group once all listeners have left. Until then the partitions of the topic stay assigned."""
        async with self._changing:
            self._open.discard(topic)
            if not self._open:
                await self._leave()

    async def _leave(self) -> None:
        membership, self._membership = self._membership, None
        if membership is not None:
            await membership.close()

    @property
    def membership(self) -> Membership | None:
        """The membership of all topics; None before it began, and after it ended."""
        return self._membership

    # --- PartitionListener -------------------------------------------------------------------------

    async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
        return await self._listeners[topic].assigned(topic, partition, committed)

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        return await self._listeners[topic].revoked(topic, partition)

    async def lost(self, topic: str, partition: int) -> None:
        await self._listeners[topic].lost(topic, partition)

    def deliver(self, topic: str, partition: int, records: Sequence[Incoming]) -> None:
        self._listeners[topic].deliver(topic, partition, records)


class TopicShare:
    """The part of one topic in a joint membership; see `ports.Membership`."""

    def __init__(self, group: JointGroup, topic: str) -> None:
        self._group = group
        self._topic = topic

    async def commit(self, topic: str, partition: int, position: Committed) -> None:
        if (membership := self._group.membership) is not None:
            await membership.commit(topic, partition, position)

    async def confirm(self, topic: str, partition: int, position: Committed) -> bool:
        membership = self._group.membership
        return membership is not None and await membership.confirm(topic, partition, position)

    def is_confirmed(self) -> bool:
        membership = self._group.membership
        return membership is not None and membership.is_confirmed()

    def pause(self, topic: str, partition: int) -> None:
        if (membership := self._group.membership) is not None:
            membership.pause(topic, partition)

    def resume(self, topic: str, partition: int) -> None:
        if (membership := self._group.membership) is not None:
            membership.resume(topic, partition)

    def unhealthy_reason(self) -> str | None:
        membership = self._group.membership
        return None if membership is None else membership.unhealthy_reason()

    async def close(self) -> None:
        await self._group.leave(self._topic)
