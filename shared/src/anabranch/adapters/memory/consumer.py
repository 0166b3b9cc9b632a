"""A member of a consumer group of the log in memory.

Reads partitions and passes batches to the listener, one batch of each partition in an iteration of the event loop.
The group decides about ownership.
"""

from __future__ import annotations

import asyncio

from anabranch.adapters.lifecycle import PartitionLifecycle, TopicPartition
from anabranch.adapters.limits import check_position
from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.group import GroupMember
from anabranch.core.errors import AnabranchError, ServerUnavailable
from anabranch.ports import Committed, PartitionListener

BATCH_RECORDS = 500


class MemoryMembership:
    """A live member; see `ports.Membership`. `start` must be called once, on the loop."""

    def __init__(
        self, broker: MemoryBroker, group: str, topics: tuple[str, ...], listener: PartitionListener
    ) -> None:
        self._broker = broker
        self._group = broker.group(group)
        self.topics = topics
        self._listener = listener
        self._lifecycle = PartitionLifecycle(listener, self._committed, self._opened)
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._changed = asyncio.Event()
        self._closing = False
        self._crashed = False
        self._pump: asyncio.Handle | None = None
        self._member: GroupMember = broker.new_member(group, topics, self._changed.set)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Join the group."""
        self._group.join(self._member)
        self._task = asyncio.ensure_future(self._follow_the_group())

    async def commit(self, topic: str, partition: int, position: Committed) -> None:
        """See `ports.Membership`."""
        self._commit_as(self._member, (topic, partition), position)

    def _commit_as(self, member: GroupMember, partition: TopicPartition, position: Committed) -> bool:
        """Commit a position; False if the member does not own the partition."""
        check_position(position)
        if self._crashed:
            raise ServerUnavailable("the log", "memory", "this client has crashed")
        return self._group.commit(member, partition, position)

    async def confirm(self, topic: str, partition: int, position: Committed) -> bool:
        """See `ports.Membership`."""
        try:
            await self.commit(topic, partition, position)
        except AnabranchError:
            return False
        return (topic, partition) in self._group.owned_by(self._member)

    def is_confirmed(self) -> bool:
        """See `ports.Membership`. The group in memory need not be asked: it is in this process."""
        return self._group.is_member(self._member)

    def pause(self, topic: str, partition: int) -> None:
        """See `ports.Membership`."""
        if (topic, partition) in self._positions:
            self._paused.add((topic, partition))

    def resume(self, topic: str, partition: int) -> None:
        """See `ports.Membership`."""
        self._paused.discard((topic, partition))
        self._wake()

    def unhealthy_reason(self) -> str | None:
        """See `ports.Membership`. Always None: there is no client that could stop."""
        return None

    async def close(self) -> None:
        """See `ports.Membership`."""
        self._closing = True
        self._changed.set()
        if self._task is not None and not self._crashed:
            # Shielded: if the caller is cancelled, the partitions are still revoked.
            await asyncio.shield(self._task)

    def expire(self) -> None:
        """Let the group expel this member, as if it had been silent too long; the member notices later."""
        self._group.remove(self._member)
        self._changed.set()

    def crash(self) -> None:
        """Stop without leaving, as a killed process: nothing is delivered, and the group expels the member after
        the session timeout."""
        self._crashed = True
        if self._task is not None:
            self._task.cancel()
        self._lifecycle.abandon()
        self._stop_reading(list(self._positions))
        asyncio.get_running_loop().call_later(self._broker.session_timeout, self._group.remove, self._member)

    async def _follow_the_group(self) -> None:
        while not self._closing:
            await self._changed.wait()
            self._changed.clear()
            if not self._group.is_member(self._member):
                await self._join_again()
            await self._release(self._group.to_release(self._member))
            if not self._closing:
                self._take()
        await self._release(self._group.owned_by(self._member))
        # A member that was expelled, and has not noticed it yet, still has partitions.
        await self._lose(self._lifecycle.partitions())
        self._group.remove(self._member)

    async def _join_again(self) -> None:
        await self._lose(self._lifecycle.partitions())
        if not self._closing:
            self._member = self._broker.new_member(self._group.name, self.topics, self._changed.set)
            self._group.join(self._member)

    async def _lose(self, partitions: list[TopicPartition]) -> None:
        self._stop_reading(partitions)
        await self._lifecycle.lose(partitions)

    async def _release(self, partitions: list[TopicPartition]) -> None:
        if not partitions:
            return
        self._stop_reading(partitions)
        for partition, position in (await self._lifecycle.revoke(partitions)).items():
            check_position(position)
            self._group.commit(self._member, partition, position)
        self._group.release(self._member, partitions)

    def _take(self) -> None:
        for partition in self._group.take(self._member):
            self._lifecycle.begin(partition)

    async def _committed(self, partition: TopicPartition) -> Committed | None:
        return self._group.committed.get(partition)

    def _opened(self, partition: TopicPartition, start: int | None, committed: Committed | None) -> None:
        log = self._broker.partition(partition)
        if start is None:
            start = committed.offset if committed else log.first
        if not log.first <= start <= log.end:
            start = log.first  # as `auto.offset.reset=earliest` for an offset out of range
        self._positions[partition] = start
        self._paused.discard(partition)
        log.watch(self._wake)
        self._wake()

    def _stop_reading(self, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            if self._positions.pop(partition, None) is not None:
                self._broker.partition(partition).unwatch(self._wake)

    def _wake(self) -> None:
        if self._pump is None:
            self._pump = asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        """Deliver one batch of each partition that has records, then yield to the loop."""
        self._pump = None
        more = False
        for partition, position in list(self._positions.items()):
            if partition in self._paused:
                continue
            batch = self._broker.partition(partition).read(position, BATCH_RECORDS)
            # The listener may have ended this partition during a delivery of this loop.
            if batch and partition in self._positions:
                self._positions[partition] = batch[-1].offset + 1
                more = more or len(batch) == BATCH_RECORDS
                self._listener.deliver(*partition, batch)
        if more:
            self._wake()
