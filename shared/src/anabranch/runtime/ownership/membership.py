"""An owner's membership of its consumer group, which it renews to take all partitions over again."""

from __future__ import annotations

import logging
from collections.abc import Collection

from anabranch.ports import Committed, EventLog, Membership, PartitionListener
from anabranch.runtime.process.supervision import SupervisedTasks

log = logging.getLogger(__name__)


class GroupMembership:
    """Membership of one consumer group on one topic.

    Args:
        listener: gets assignments and records.
        owned: the partitions that the listener has now.
        tasks: run the renewal, so that a failure of it ends the process.
    """

    def __init__(
        self,
        eventlog: EventLog,
        group: str,
        topic: str,
        listener: PartitionListener,
        owned: Collection[int],
        tasks: SupervisedTasks,
    ) -> None:
        self._log = eventlog
        self._group = group
        self._topic = topic
        self._listener = listener
        self._owned = owned
        self._tasks = tasks
        self._member: Membership | None = None
        self.is_rejoining = False

    async def join(self) -> None:
        """Join the group; returns when this process is a member, possibly without partitions yet."""
        self._member = await self._log.join(self._group, [self._topic], self._listener)

    async def leave(self) -> None:
        """Leave the group: the listener's partitions are revoked and their positions committed."""
        if self._member is not None:
            await self._member.close()

    @property
    def unhealthy_reason(self) -> str | None:
        """Why the group delivers nothing any more; None if it does."""
        return self._member.unhealthy_reason() if self._member is not None else None

    def pause(self, partition: int) -> None:
        """Stop the delivery of a partition's records."""
        if self._member is not None:
            self._member.pause(self._topic, partition)

    def resume(self, partition: int) -> None:
        """Continue the delivery of a partition's records."""
        if self._member is not None:
            self._member.resume(self._topic, partition)

    async def commit(self, partition: int, position: Committed) -> None:
        """Commit a position. Raises ServerUnavailable."""
        if self._member is not None:
            await self._member.commit(self._topic, partition, position)

    async def confirm(self, partition: int, position: Committed) -> bool:
        """True if this process still is the partition's owner in the group; commits `position` to find out."""
        return self._member is not None and await self._member.confirm(self._topic, partition, position)

    def is_confirmed(self) -> bool:
        """True if the group cannot have given any partition of this process to another one. See
        `ports.Membership`."""
        return self._member is not None and not self.is_rejoining and self._member.is_confirmed()

    def rejoin(self) -> None:
        """Leave the group and join it again in the background: every partition is then taken over from the log."""
        if not self.is_rejoining:
            # Set here, not in the task: until the task has begun, further calls must not start a second one.
            self.is_rejoining = True
            self._tasks.spawn(self._rejoin(), f"rejoin {self._topic}")

    async def _rejoin(self) -> None:
        try:
            if self._member is not None:
                await self._member.close()
                for number in list(self._owned):  # a membership that was expelled revokes nothing
                    await self._listener.lost(self._topic, number)
                await self.join()
        finally:
            self.is_rejoining = False
