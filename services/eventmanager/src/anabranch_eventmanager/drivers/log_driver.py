"""Driver for embedded mode: reads the events topic through the EventLog port.

Documents are kept in memory only and are rebuilt from the start of the log at each assignment, so the log has to
be short.
"""

from __future__ import annotations

from collections.abc import Sequence

from anabranch.ports import Committed, EventLog, Incoming, Membership
from anabranch_eventmanager.projection.documents import Document
from anabranch_eventmanager.projector import Projector


class LogDriver:
    """See the module. `topic` is the events topic, `group` the consumer group."""

    def __init__(self, log: EventLog, group: str, topic: str) -> None:
        self._log = log
        self._group = group
        self._topic = topic
        self._membership: Membership | None = None

    async def start(self, projector: Projector) -> None:
        """See `service.Driver`."""
        self._membership = await self._log.join(self._group, [self._topic], _Listener(projector))

    async def stop(self) -> None:
        """See `service.Driver`."""
        membership, self._membership = self._membership, None
        if membership is not None:
            await membership.close()

    def unhealthy_reason(self) -> str | None:
        """See `service.Driver`."""
        return self._membership.unhealthy_reason() if self._membership is not None else None


class _Listener:
    """A `ports.PartitionListener`.

    Handling a record takes microseconds, so records are not queued and the log is not paused.
    """

    def __init__(self, projector: Projector) -> None:
        self._projector = projector
        self._next: dict[int, int] = {}
        self._forwarded: dict[int, int] = {}

    async def assigned(
        self,
        topic: str,
        partition: int,
        committed: Committed | None,
    ) -> int | None:
        """Read the partition from its start; events of records that were committed before are not forwarded
        again."""
        self._forwarded[partition] = committed.offset if committed else 0
        self._next.pop(partition, None)
        # Nothing is stored, so the documents are built again from the first record.
        self._projector.open(partition, {}, _do_not_persist)
        return 0

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        """Commit how far events were forwarded."""
        await self.lost(topic, partition)
        following = self._next.pop(partition, None)
        return None if following is None else Committed(following)

    async def lost(self, topic: str, partition: int) -> None:
        """Drop the partition."""
        self._projector.close(partition)

    def deliver(
        self,
        topic: str,
        partition: int,
        records: Sequence[Incoming],
    ) -> None:
        """Handle the records at once.

        If offsets go back the topic was created again, and all documents are dropped.
        """
        if records[0].offset < self._next.get(partition, 0):
            self._forwarded[partition] = 0
            self._projector.open(partition, {}, _do_not_persist)
        self._projector.handle(partition, records, replayed_until=self._forwarded[partition])
        self._next[partition] = records[-1].offset + 1


def _do_not_persist(_partition: int, _key: str, _document: Document | None) -> None:
    """Documents are in memory only."""
