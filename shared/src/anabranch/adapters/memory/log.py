"""A client of the log in memory: `ports.EventLog` over a shared MemoryBroker.

Each simulated process has its own client, so that one can crash while the others continue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.consumer import MemoryMembership
from anabranch.adapters.memory.reader import MemoryReader
from anabranch.adapters.partitioner import partition_of
from anabranch.core.errors import ServerUnavailable
from anabranch.ports import Beginning, Clock, Outgoing, PartitionListener, Standing, TopicSpec


class MemoryLog:
    """A client of `broker`; records have the time of `clock`. After `close` or `crash` every call raises."""

    def __init__(self, broker: MemoryBroker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._memberships: list[MemoryMembership] = []
        self._readers: list[MemoryReader] = []
        self._ended = ""

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """See `ports.EventLog`."""
        self._check_alive()
        offsets = self._broker.append(records, self._clock.now())
        # As over a network, others run before the acknowledgement: a publisher in a loop would starve the readers.
        await asyncio.sleep(0)
        return offsets

    async def join(self, group: str, topics: Sequence[str], listener: PartitionListener) -> MemoryMembership:
        """See `ports.EventLog`. Raises Misconfigured if a topic does not exist."""
        self._check_alive()
        membership = MemoryMembership(self._broker, group, tuple(topics), listener)
        self._memberships.append(membership)
        membership.start()
        return membership

    @asynccontextmanager
    async def read(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        start: int | Literal["earliest", "latest"] = "latest",
    ) -> AsyncIterator[MemoryReader]:
        """See `ports.EventLog`."""
        self._check_alive()
        every = self._broker.partitions(topic)
        chosen = every if partitions is None else [self._broker.partition((topic, n)) for n in partitions]
        reader = MemoryReader(chosen, start)
        self._readers.append(reader)
        try:
            yield reader
        finally:
            self._readers.remove(reader)
            reader.close()

    async def create_topics(self, topics: Sequence[TopicSpec]) -> Sequence[str]:
        """See `ports.EventLog`."""
        self._check_alive()
        return [spec.name for spec in topics if self._broker.create(spec)]

    async def partition_count(self, topic: str) -> int:
        """See `ports.EventLog`."""
        self._check_alive()
        return len(self._broker.partitions(topic))

    async def record_limit(self, topic: str) -> int:
        """See `ports.EventLog`."""
        self._check_alive()
        return self._broker.record_limit(topic)

    async def incarnation(self, topic: str) -> str:
        """See `ports.EventLog`."""
        self._check_alive()
        return self._broker.incarnation(topic)

    async def beginnings(self, topic: str, partitions: Collection[int]) -> Mapping[int, Beginning]:
        """See `ports.EventLog`."""
        self._check_alive()
        return self._broker.beginnings(topic, partitions)

    async def topic_settings(self, topic: str) -> Mapping[str, str]:
        """See `ports.EventLog`."""
        self._check_alive()
        return self._broker.settings_of(topic)

    async def partition_for(self, topic: str, key: str) -> int:
        """See `ports.EventLog`."""
        return partition_of(key, await self.partition_count(topic))

    async def group_lag(self, group: str, topic: str) -> Mapping[int, int]:
        """See `ports.EventLog`."""
        self._check_alive()
        return self._broker.lag(group, topic)

    async def group_standing(self, group: str, topic: str, *, members: bool = False) -> Mapping[int, Standing]:
        """See `ports.EventLog`."""
        self._check_alive()
        return self._broker.standing(group, topic, members=members)

    async def close(self) -> None:
        """See `ports.EventLog`. Open memberships leave the group first."""
        if self._ended:
            return
        for membership in self._memberships:
            await membership.close()
        self._end("it was closed")

    def crash(self) -> None:
        """Stop as a killed process: no partition is revoked, members expire after the broker's session timeout,
        and every later call raises ServerUnavailable."""
        for membership in self._memberships:
            membership.crash()
        self._end("it has crashed")

    def expire(self) -> None:
        """Act as a process that was suspended for longer than the session timeout: the partitions belong to
        others, the listeners get `lost`, and the memberships join again."""
        for membership in self._memberships:
            membership.expire()

    def _end(self, reason: str) -> None:
        self._ended = reason
        for reader in self._readers:
            reader.close()

    def _check_alive(self) -> None:
        if self._ended:
            raise ServerUnavailable("the log in memory", "this process", f"this client has ended: {self._ended}")
