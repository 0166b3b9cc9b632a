"""Member of a consumer group that reads one topic, without state: for requests, offers and webhooks.

It queues delivered records, pauses the log while the queue is long, and commits up to the last record that its
user reported as done.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol

from anabranch.core.errors import AnabranchError, ServerUnavailable
from anabranch.ports import Committed, EventLog, Incoming, Membership
from anabranch.runtime.ownership.bounded_queue import BoundedQueue
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.topic_recreation import POLL_SECONDS, RecreationDetector

log = logging.getLogger(__name__)

COMMIT_SECONDS = 0.5


class RecordQueue(Protocol):
    """Where a consumer puts delivered records; see `BoundedQueue`."""

    def extend(self, records: Iterable[Incoming]) -> None: ...

    def take(self, count: int) -> Sequence[Incoming]: ...

    def retain(self, is_wanted: Callable[[Incoming], bool]) -> None: ...

    def clear(self) -> None: ...

    @property
    def is_long(self) -> bool: ...

    @property
    def is_short(self) -> bool: ...

    def __len__(self) -> int: ...


@dataclass(slots=True, eq=False)
class _Assignment:
    """One assignment of a partition, until it is revoked or lost.

    Attributes:
        topic_id: the topic's id at the assignment, written into commits. Empty after the topic was created again.
        expected: the lowest offset that the next record may have.
        open: delivered records that are not done. Records of an earlier assignment are not among them.
    """

    topic_id: str
    expected: int
    open: deque[Incoming] = field(default_factory=deque)
    done: int | None = None
    committed: int | None = None

    def forget_open(self) -> None:
        """Forget the delivered records: they were of a topic that is gone."""
        self.open.clear()

    @property
    def position(self) -> Committed | None:
        """The position to commit; None if no record is done."""
        return Committed(self.done, self.topic_id) if self.done is not None else None

    def finish(self, record: Incoming) -> bool:
        """Mark a record and all before it as done; False if it is of an earlier assignment."""
        before = takewhile(lambda each: each.offset <= record.offset, self.open)
        # Whole records are compared: after a recreation of the topic, another record may have the same offset.
        at = next((at for at, each in enumerate(before) if each == record), None)
        if at is None:
            return False
        for _ in range(at + 1):
            self.open.popleft()
        self.done = record.offset + 1
        return True


@dataclass(slots=True, eq=False)
class _UnorderedAssignment(_Assignment):
    """One whose records are done in any order: the position is that of the first one that is not."""

    finished: set[int] = field(default_factory=set)

    def forget_open(self) -> None:
        # Not by `super()`: the decorator has made another class of this one.
        self.open.clear()
        self.finished.clear()

    def finish(self, record: Incoming) -> bool:
        """Mark a record as done; False if it is of an earlier assignment."""
        if not self.open or not self.open[0].offset <= record.offset <= self.open[-1].offset:
            return False
        self.finished.add(record.offset)
        if self.open[0].offset != record.offset:
            return False
        while self.open and self.open[0].offset in self.finished:
            self.done = self.open[0].offset + 1
            self.finished.discard(self.open.popleft().offset)
        return True


class Consumer:
    """A member of a consumer group on one topic. A `PartitionListener`.

    Args:
        supervisor: runs the background tasks; a crash of one ends the process.
        max_queued: number of queued records above which the log is paused.
        queue: in place of a queue that takes so many.
        in_order: False if records are done in another order than they were delivered in: each of them has to be
            marked.
    """

    def __init__(
        self,
        eventlog: EventLog,
        group: str,
        topic: str,
        supervisor: Supervisor,
        *,
        max_queued: int = 0,
        queue: RecordQueue | None = None,
        in_order: bool = True,
    ) -> None:
        self._log = eventlog
        self._group = group
        self._topic = topic
        self._queue: RecordQueue = BoundedQueue(max_queued) if queue is None else queue
        self._assignment = _Assignment if in_order else _UnorderedAssignment
        self._has_records = asyncio.Event()
        self._has_done = asyncio.Event()
        self._owned: dict[int, _Assignment] = {}
        self._paused: set[int] = set()
        self._membership: Membership | None = None
        self._recreation = RecreationDetector(eventlog, topic)
        self._needs_rejoin = False
        self._tasks = supervisor.tasks()

    @property
    def unhealthy_reason(self) -> str | None:
        """Why the group delivers nothing any more; None if it does."""
        return self._membership.unhealthy_reason() if self._membership is not None else None

    @property
    def queued(self) -> int:
        """Records that were delivered and not taken."""
        return len(self._queue)

    async def start(self) -> None:
        """Join the group, and commit done records in the background."""
        self._membership = await self._log.join(self._group, [self._topic], self)
        for name, work in (("commit", self._commit_loop()), ("watch", self._watch_loop())):
            self._tasks.spawn(work, f"{name} {self._topic}")

    async def stop(self) -> None:
        """Leave the group. Records that were not taken are delivered to another member."""
        # Before the group is left: a record taken from here on would be delivered to another member, too.
        self._queue.clear()
        await self._tasks.cancel()
        if self._membership is not None:
            # None first: a membership that is being closed must get no further commits.
            membership, self._membership = self._membership, None
            await membership.close()

    async def filled(self) -> None:
        """Return once a record is queued."""
        while not self._queue:
            self._has_records.clear()
            await self._has_records.wait()

    async def take(self, count: int) -> Sequence[Incoming]:
        """The next records in order, at least one; waits until there is one."""
        await self.filled()
        taken = self._queue.take(count)
        self.resume_if_short()
        return taken

    def resume_if_short(self) -> None:
        """Have the log deliver again if the queue is short: records were taken from it."""
        if self._paused and self._queue.is_short:
            self._resume()

    def done(self, records: Sequence[Incoming]) -> None:
        """Mark records, and all before them in their partitions, as done."""
        for record in records:
            assignment = self._owned.get(record.partition)
            if assignment is not None and assignment.finish(record):
                self._has_done.set()

    async def _commit_loop(self) -> None:
        while True:
            await self._has_done.wait()
            self._has_done.clear()
            # Records that are done during the pause share one commit.
            await asyncio.sleep(COMMIT_SECONDS)
            await self._commit()

    async def _commit(self) -> None:
        """Commit done records. While the log is unavailable, the next commit tries again."""
        for partition, assignment in list(self._owned.items()):
            done, position = assignment.done, assignment.position
            if position is None or done == assignment.committed or self._owned.get(partition) is not assignment:
                continue  # revoked during the commit before: the next member may have committed more
            if self._membership is None:
                return
            try:
                await self._membership.commit(self._topic, partition, position)
                # Noted in this assignment only: if it was lost meanwhile, nothing was committed.
                assignment.committed = done
            except ServerUnavailable as error:
                self._has_done.set()
                log.warning(
                    "cannot commit the position of %s/%d, retrying with the next commit: %s",
                    self._topic,
                    partition,
                    error,
                )

    async def _watch_loop(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                # `were_recreated` returns True only once, so the result is kept until joining again has succeeded.
                self._needs_rejoin = self._needs_rejoin or await self._recreation.were_recreated(self._owned)
                if self._needs_rejoin:
                    await self._join_again()
            except AnabranchError as error:
                log.warning(
                    "cannot check whether topic %s was created again, checking again later: %s", self._topic, error
                )

    async def _join_again(self) -> None:
        """Read the new topic from its beginning: the commit is of the deleted one."""
        if self._membership is not None:
            await self._membership.close()
            self._membership = await self._log.join(self._group, [self._topic], self)
            self._needs_rejoin = False

    # --- PartitionListener -------------------------------------------------------------------------

    async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
        # First, so that a recreation of the topic after this line is noticed.
        await self._recreation.assigned(partition)
        topic_id = await self._log.incarnation(topic)
        is_of_another = committed is not None and committed.metadata not in ("", topic_id)
        first = 0 if committed is None or is_of_another else committed.offset
        self._owned[partition] = self._assignment(topic_id, first)
        return 0 if is_of_another else None

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        assignment = self._owned.get(partition)
        self._drop(partition)
        return assignment.position if assignment is not None else None

    async def lost(self, topic: str, partition: int) -> None:
        self._drop(partition)

    def deliver(self, topic: str, partition: int, records: Sequence[Incoming]) -> None:
        assignment = self._owned.get(partition)
        if assignment is None:
            return
        if records[0].offset < assignment.expected:
            log.warning(
                "%s/%d starts again at a lower offset: its topic was created again, reading the new one",
                topic,
                partition,
            )
            # The id of the new topic is not known here. A commit without an id is accepted for any topic.
            assignment.topic_id, assignment.done = "", None
            assignment.forget_open()
        assignment.expected = records[-1].offset + 1
        assignment.open.extend(records)
        self._recreation.delivered(partition, records)
        self._queue.extend(records)
        self._has_records.set()
        if self._queue.is_long and self._membership is not None:
            self._paused.add(partition)
            self._membership.pause(topic, partition)

    def _drop(self, partition: int) -> None:
        self._owned.pop(partition, None)
        self._paused.discard(partition)
        self._queue.retain(lambda record: record.partition != partition)

    def _resume(self) -> None:
        if self._membership is not None:
            for partition in self._paused:
                self._membership.resume(self._topic, partition)
        self._paused.clear()
