"""The role of the event manager that writes the history: reads the log in a consumer group of its own.

Each partition has a queue and a task, which folds its records in a thread and writes the rows and the offset in
one transaction. While the database is away the task retries, the queue fills, and the log is paused: runs go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from anabranch.core.bounded import BoundedDict
from anabranch.core.errors import AnabranchError, Fenced, Misconfigured, ServerUnavailable, StoreRefused
from anabranch.ports import Committed, Incoming, Membership
from anabranch.ports.history import HistoryPosition, HistoryStore, HistoryWrites
from anabranch.runtime.ownership.bounded_queue import BoundedQueue
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.until_available import until_available
from anabranch_eventmanager.projection.decisions import has_ended
from anabranch_eventmanager.projection.history.folding import State, decode, decode_state, fold
from anabranch_eventmanager.projection.history.other_rows import audit_writes, dead_letter_writes

PACE_SECONDS = 0.25
"""Pause between two transactions of a partition that has caught up: a run is then written a few times, not with
each of its records."""
RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 10.0
COMMIT_SECONDS = 5.0
"""The group's offsets only show the lag: the database has those that count."""
AUDIT_SECONDS = 5.0
CAUGHT_UP_SECONDS = 2.0
MAX_RECORDS = 8_000
MAX_BYTES = 16_000_000
BATCH = 4_000
MAX_STATES = 20_000
"""Tasks of the open runs of a partition whose states are kept in memory; others are read from the database."""
WRITERS = 2
"""Partitions that are folded and written at once: while the database works for one, the other is folded."""

T = TypeVar("T")
_log = logging.getLogger("anabranch.eventmanager")
_RETRIED = (ServerUnavailable, StoreRefused, Misconfigured)


def _weight(state: State) -> int:
    return 1 + len(state["attempts"])


@dataclass(slots=True)
class _Partition:
    """One partition of one topic. `next_offset` is the next record that the log delivers."""

    position: HistoryPosition
    next_offset: int
    queue: BoundedQueue = field(default_factory=lambda: BoundedQueue(MAX_RECORDS, MAX_BYTES))
    states: BoundedDict[str, State] = field(default_factory=lambda: BoundedDict(MAX_STATES, weight=_weight))
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    is_paused: bool = False
    is_recreated: bool = False
    """True if the topic was created again since the partition was taken over."""
    commit_at: float = 0.0


class HistoryProjector:
    """See the module. A `ports.PartitionListener`.

    Args:
        pace: seconds between two transactions of a partition.
        look_every: seconds between two looks at the ends of the partitions.
    """

    def __init__(
        self,
        store: HistoryStore,
        resources: Resources,
        *,
        pace: float = PACE_SECONDS,
        look_every: float = CAUGHT_UP_SECONDS,
    ) -> None:
        self._caught_up_seconds = look_every
        self._store = store
        self._log, self._names, self._clock = resources.log, resources.names, resources.clock
        self._tasks = resources.supervisor.tasks()
        self._pace = pace
        self._writers = asyncio.Semaphore(WRITERS)
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._memberships: dict[str, Membership] = {}
        """By topic."""
        self._failure: AnabranchError | None = None

    def start(self) -> None:
        """Start to read in the background, as soon as the database responds."""
        self._tasks.spawn(self._run(), "history")
        self._tasks.spawn(self._note_ends(), "ends of the history")

    async def stop(self) -> None:
        """Leave the group. Records that are not written are read again at the next start."""
        memberships, self._memberships = set(self._memberships.values()), {}
        for each in memberships:
            await each.close()
        await self._tasks.cancel()
        await self._store.close()

    def unhealthy_reason(self) -> str | None:
        """Why the history is not written; None if it is."""
        if self._failure is not None:
            waiting = sum(len(each.queue) for each in self._partitions.values())
            return f"the history is not written, {waiting} records wait here: {self._failure}"
        reasons = (each.unhealthy_reason() for each in self._memberships.values())
        return next((reason for reason in reasons if reason is not None), None)

    # --- the group -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        await self._until_done(self._store.prepare, "prepare the database of the history")
        await self._join(self._names.history, [self._names.events, self._names.dead_letters])
        while True:
            if await until_available(self._has_audit, "look for the audit topic"):
                break
            await asyncio.sleep(AUDIT_SECONDS)
        await self._join(self._names.history_audit, [self._names.audit])

    async def _note_ends(self) -> None:
        """Note that partitions of events are read to their ends, which makes answers from the history current."""
        while True:
            await asyncio.sleep(self._caught_up_seconds)
            now, events = self._clock.now(), self._names.events
            try:
                ends = await self._log.group_standing(self._names.history, events) if self._partitions else {}
                read = [each.position for (topic, _), each in self._partitions.items() if topic == events]
                at_end = [each for each in read if each.next_offset >= ends[each.partition].end]
                await self._store.caught_up(at_end, now)
            except _RETRIED as error:
                _log.debug("the history cannot note that it is read to the end: %s", error)

    async def _has_audit(self) -> bool:
        try:
            return await self._log.partition_count(self._names.audit) > 0
        except Misconfigured:  # no gateway has run yet
            return False

    async def _join(self, group: str, topics: Sequence[str]) -> None:
        join = partial(self._log.join, group, topics, self)
        membership = await until_available(join, f"join the consumer group {group}")
        self._memberships.update(dict.fromkeys(topics, membership))

    async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
        """Become the owner of a partition, and start after what the database has."""
        position = await self._take_over(topic, partition)
        opened = _Partition(position, position.next_offset)
        self._partitions[topic, partition] = opened
        opened.task = self._tasks.spawn(self._work(opened), f"history of {topic}/{partition}")
        return position.next_offset

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        """Stop at once: what is not committed in the database is read again."""
        found = self._partitions.get((topic, partition))
        await self.lost(topic, partition)
        return None if found is None else Committed(found.position.next_offset)

    async def lost(self, topic: str, partition: int) -> None:
        """Stop at once."""
        found = self._partitions.pop((topic, partition), None)
        if found is not None and found.task is not None:
            found.task.cancel()
            await asyncio.gather(found.task, return_exceptions=True)

    def deliver(self, topic: str, partition: int, records: Sequence[Incoming]) -> None:
        """Queue records; pause the partition if many wait."""
        found = self._partitions.get((topic, partition))
        if found is None:
            return
        if records[0].offset < found.next_offset:
            found.is_recreated = True
            found.queue.clear()
        found.next_offset = records[-1].offset + 1
        found.queue.extend(records)
        found.wake.set()
        if found.queue.is_long and not found.is_paused and topic in self._memberships:
            found.is_paused = True
            self._memberships[topic].pause(topic, partition)

    async def _take_over(self, topic: str, partition: int) -> HistoryPosition:
        async def take_over() -> HistoryPosition:
            incarnation = await self._log.incarnation(topic)
            return await self._store.take_over(topic, partition, incarnation)

        return await self._until_done(take_over, f"take over {topic}/{partition} for the history")

    # --- the work ------------------------------------------------------------------------------------

    async def _work(self, partition: _Partition) -> None:
        try:
            while True:
                await partition.wake.wait()
                partition.wake.clear()
                while records := partition.queue.take(BATCH, MAX_BYTES):
                    async with self._writers:
                        await self._project(partition, records)
                    self._resume(partition)
                await self._commit(partition)
                await asyncio.sleep(self._pace)
        except Fenced as fenced:
            # The group notices soon, and takes the partition away.
            _log.warning("another process writes the history of this partition now: %s", fenced)

    async def _project(self, partition: _Partition, records: Sequence[Incoming]) -> None:
        if partition.is_recreated:
            partition.is_recreated = False
            partition.position = await self._take_over(partition.position.topic, partition.position.partition)
            partition.states.clear()
        position, last = partition.position, records[-1]
        new = [record for record in records if record.offset >= position.next_offset]
        if not new:
            return
        writes = await self._writes(partition, new)

        async def write() -> HistoryPosition:
            at = last.timestamp
            return await self._store.write(position, last.offset + 1, writes, at, at)

        partition.position = await self._until_done(write, "write the history")

    async def _writes(self, partition: _Partition, records: Sequence[Incoming]) -> HistoryWrites:
        topic = partition.position.topic
        if topic != self._names.events:
            return (audit_writes if topic == self._names.audit else dead_letter_writes)(records)
        batches = await asyncio.to_thread(decode, records)
        run_ids = dict.fromkeys(batch.run_id for _, batch in batches)
        states = {run_id: partition.states[run_id] for run_id in run_ids if run_id in partition.states}
        unknown = [run_id for run_id in run_ids if run_id not in states]
        stored = await self._until_done(partial(self._store.states, unknown), "read the history")

        def work() -> HistoryWrites:
            states.update((run_id, decode_state(value)) for run_id, value in stored.items())
            return fold(states, batches, partition.position.incarnation)

        writes = await asyncio.to_thread(work)
        for run_id, state in states.items():
            if has_ended(state["run"]):
                partition.states.pop(run_id, None)
            else:
                partition.states[run_id] = state
        return writes

    async def _until_done(self, action: Callable[[], Awaitable[T]], what: str) -> T:
        """The result of an action, which is repeated until the database has done it; health has the reason."""

        async def attempt() -> T:
            try:
                found = await action()
            except AnabranchError:
                raise
            except Exception as error:  # a bug must not end the process: runs do not need the history
                _log.exception("internal error of the history, retrying")
                raise StoreRefused(what, f"{type(error).__name__}: {error}", "See the log") from error
            self._failure = None
            return found

        def failed(error: AnabranchError) -> None:
            self._failure = error

        return await until_available(
            attempt, what, delay=RETRY_SECONDS, max_delay=MAX_RETRY_SECONDS, retry_on=_RETRIED, on_failure=failed
        )

    def _resume(self, partition: _Partition) -> None:
        topic = partition.position.topic
        if partition.is_paused and partition.queue.is_short and topic in self._memberships:
            partition.is_paused = False
            self._memberships[topic].resume(topic, partition.position.partition)

    async def _commit(self, partition: _Partition) -> None:
        now = self._clock.monotonic()
        position = partition.position
        membership = self._memberships.get(position.topic)
        if membership is None or now < partition.commit_at:
            return
        partition.commit_at = now + COMMIT_SECONDS
        try:
            await membership.commit(position.topic, position.partition, Committed(position.next_offset))
        except ServerUnavailable as error:
            _log.debug("the history cannot commit its offsets to its group: %s", error)
