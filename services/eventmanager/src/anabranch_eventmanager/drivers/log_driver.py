"""Drives the event manager from the EventLog port in a plain loop: for the system in one process.

Facts live in memory only and are rebuilt from the start of the log, so this is for a log that lives no longer
than it is short. Must not decide anything: the same keeper runs on Faust.
"""

from __future__ import annotations

from collections.abc import Sequence

from anabranch.ports import Committed, EventLog, Incoming, Membership
from anabranch_eventmanager.projection.documents import Document
from anabranch_eventmanager.projector import Projector


class LogDriver:
    """See the module; `topic` is the events topic, `group` the consumer group."""

    def __init__(self, log: EventLog, group: str, topic: str) -> None:
        self._log = log
        self._group = group
        self._topic = topic
        self._membership: Membership | None = None

    async def start(self, keeper: Projector) -> None:
        """See `service.Driver`."""
        self._membership = await self._log.join(self._group, [self._topic], _Listener(keeper))

    async def stop(self) -> None:
        """See `service.Driver`."""
        membership, self._membership = self._membership, None
        if membership is not None:
            await membership.close()

    def unhealthy_reason(self) -> str | None:
        """See `service.Driver`."""
        return self._membership.unhealthy_reason() if self._membership is not None else None


class _Listener:
    """The `ports.PartitionListener`. Handling a record takes microseconds, so nothing is queued or paused."""

    def __init__(self, keeper: Projector) -> None:
        self._keeper = keeper
        self._next: dict[int, int] = {}
        self._forwarded: dict[int, int] = {}

    async def assigned(
        self,
        topic: str,
        partition: int,
        committed: Committed | None,
    ) -> int | None:
        """Read all from the start; what was committed before is not forwarded again."""
        self._forwarded[partition] = committed.offset if committed else 0
        self._next.pop(partition, None)
        self._keeper.open(partition, {}, _keep_nothing)
        return 0

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        """Commit how far events were forwarded."""
        await self.lost(topic, partition)
        following = self._next.pop(partition, None)
        return None if following is None else Committed(following)

    async def lost(self, topic: str, partition: int) -> None:
        """Drop the partition."""
        self._keeper.close(partition)

    def deliver(
        self,
        topic: str,
        partition: int,
        records: Sequence[Incoming],
    ) -> None:
        """Handle the records at once. Offsets that go back are those of a topic that was created again."""
        if records[0].offset < self._next.get(partition, 0):
            self._forwarded[partition] = 0
            self._keeper.open(partition, {}, _keep_nothing)
        for record in records:
            self._keeper.handle(record, replayed=record.offset < self._forwarded[partition])
            self._next[partition] = record.offset + 1


def _keep_nothing(_partition: int, _key: str, _document: Document | None) -> None:
    """Memory is all there is."""
