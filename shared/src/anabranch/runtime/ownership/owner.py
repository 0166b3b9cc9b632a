"""The shell around an actor: owns partitions of a topic, calls `decide`, performs its effects, commits later.

State is a fold over the partition. A new owner appends a claim, whose offset is its epoch, and replays from the
first record, or the last snapshot, of the oldest run that was open at the committed offset. Records below the
committed offset only rebuild state. Effects of records between it and the claim may be missing, because the last
owner died: effects that make outcomes durable or publish them are repeated, identically. Effects that only start
work (offers, watches) are derived from the state once the claim is reached.

Commits are delayed by the loss window, because a store may return with data that is seconds old.

`claims` takes partitions over, `turns` applies records, `commits` commits. This package decides nothing about
runs, groups or tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Generic, TypeVar

from anabranch.ports import Committed, Incoming
from anabranch.runtime.ownership.claims import PartitionClaims
from anabranch.runtime.ownership.commits import Committer
from anabranch.runtime.ownership.due_timers import DueTimers
from anabranch.runtime.ownership.handler import PartitionHandler
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.ownership.loss_detector import LossDetector
from anabranch.runtime.ownership.membership import GroupMembership
from anabranch.runtime.ownership.owned_partition import OwnedPartition
from anabranch.runtime.ownership.owner_context import OwnerContext
from anabranch.runtime.ownership.owner_metrics import OwnerMetrics
from anabranch.runtime.ownership.snapshot_writer import SnapshotWriter, policy_of
from anabranch.runtime.ownership.turns import TurnProcessor
from anabranch.runtime.ownership.watchdog import Progress, Watchdog
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.topic_recreation import RecreationDetector

log = logging.getLogger(__name__)

S = TypeVar("S")

RELEASE_SECONDS = 4.0
"""Time for the last turn of a revoked partition and its handover together. Less than the time that the consumer
group gives, after which the revocation is cancelled and nothing is committed."""


class Owner(Generic[S]):
    """Owns the partitions of one topic for one service. A `PartitionListener`.

    Args:
        clock: the log's time, on which deadlines are compared.
        name: the owner's name in claims, one for each incarnation of a process.
        stays_confirmed: confirm the membership every few seconds also where there is nothing to commit, for
            `is_confirmed`.
    """

    def __init__(
        self,
        handler: PartitionHandler[S],
        resources: Resources,
        clock: LogClock,
        *,
        name: str,
        stays_confirmed: bool = False,
    ) -> None:
        self._handler = handler
        self._clock = clock
        self._owned: dict[int, OwnedPartition[S]] = {}
        self._tasks = resources.supervisor.tasks()
        self._loops: list[asyncio.Task[None]] = []
        self._membership = GroupMembership(
            resources.log, handler.group, handler.topic, self, self._owned, self._tasks
        )
        self._recreation = RecreationDetector(resources.log, handler.topic)
        context = OwnerContext(
            handler,
            resources,
            clock,
            self._owned,
            self._membership,
            LossDetector(resources.store, resources.names, handler.topic),
            self._recreation,
            OwnerMetrics(resources.telemetry, clock, handler.topic.removeprefix(resources.names.prefix)),
        )
        self._claims = PartitionClaims(context, name)
        self._committer = Committer(context, stays_confirmed=stays_confirmed)
        self._turns = TurnProcessor(context, self._claims, DueTimers(handler, resources.log, clock, self._tasks))
        policy = policy_of(resources.settings)
        self._snapshot_writer = SnapshotWriter(context, policy) if policy is not None else None
        self._watchdog = Watchdog(
            resources.log,
            handler.group,
            handler.topic,
            clock,
            self._progress,
            patience=resources.settings.stall_after,
        )

    # --- life cycle --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join the consumer group; returns when this process is a member, possibly without partitions yet."""
        await self._membership.join()
        for loop, name in ((self._committer.run(), "commit"), (self._watchdog.run(), "watch")):
            self._loops.append(self._tasks.spawn(loop, f"{name} {self._handler.topic}"))
        if self._snapshot_writer is not None:
            self._loops.append(self._tasks.spawn(self._snapshot_writer.run(), f"snapshots {self._handler.topic}"))

    async def stop(self) -> None:
        """Leave the group in good order: turns under way end, positions are committed."""
        # The loops end first: a commit of the loop must not overtake the last one, which `leave` makes.
        for loop in self._loops:
            loop.cancel()
        await self._membership.leave()
        await self._tasks.cancel()

    @property
    def states(self) -> dict[int, S]:
        """The state of each partition that is owned and caught up."""
        return {number: owned.state for number, owned in self._owned.items() if owned.is_caught_up}

    @property
    def is_caught_up(self) -> bool:
        """True if each owned partition has been read up to the owner's claim."""
        return all(owned.is_caught_up for owned in self._owned.values())

    def is_confirmed(self) -> bool:
        """True if the group cannot have given any partition that is owned to another process."""
        return self._membership.is_confirmed()

    @property
    def unhealthy_reason(self) -> str | None:
        """Why the owner is stuck; None if it is not. Liveness fails meanwhile."""
        return self._membership.unhealthy_reason or self._watchdog.unhealthy_reason

    @property
    def waiting_for(self) -> str | None:
        """The unavailable server, or missing value, that the owner waits for; None if it waits for none. Readiness
        fails meanwhile."""
        return self._watchdog.waiting_for or self._committer.unavailable_reason

    @property
    def backlog(self) -> int:
        """Number of records that are queued and not applied yet."""
        return sum(len(owned.queue) for owned in self._owned.values())

    @property
    def next_timer(self) -> float | None:
        """The time of the event loop at which the earliest timer of a partition fires; None without one."""
        timers = (owned.timer.when() for owned in self._owned.values() if owned.timer is not None)
        return min(timers, default=None)

    def _progress(self) -> dict[int, Progress]:
        return {number: owned.progress for number, owned in self._owned.items()}

    # --- PartitionListener -------------------------------------------------------------------------

    async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
        """Claim the partition; start at the oldest open run's first record."""
        owned = await self._claims.take_over(partition, committed)
        self._owned[partition] = owned
        owned.task = self._tasks.spawn(self._turns.run(owned), f"own {topic}/{partition}")
        return owned.replay.start

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        """Let the turn under way end; returns the position to commit."""
        # Removed before the turn ends: from here on, deliveries and the commit loop skip the partition.
        owned = self._owned.pop(partition, None)
        if owned is None:
            return None
        owned.closing = True
        owned.queue.clear()
        owned.wake.set()
        end = asyncio.get_running_loop().time() + RELEASE_SECONDS
        if owned.task is not None:
            # A turn that waits for a server ends as cancelled; its position is not committed.
            with contextlib.suppress(asyncio.CancelledError):
                await owned.task
        # A cancelled turn has taken the time that the group gives, and the servers are away.
        if owned.task is None or not owned.task.cancelled():
            await self._hand_over(owned, end)
        await self._release(owned)
        return owned.committable(self._clock.monotonic())

    async def _hand_over(self, owned: OwnedPartition[S], end: float) -> None:
        """Show the next owner what is under way here, if that is possible until `end`, a time of the loop."""
        try:
            async with asyncio.timeout_at(end):
                await self._handler.hand_over(owned.state)
        except TimeoutError:
            # The last turn took nearly all of the time. What it did is durable, so its position is committed.
            log.warning(
                "%s/%d was revoked, and the servers did not answer within %g s: its next owner may start work "
                "again that is under way here",
                self._handler.topic,
                owned.number,
                RELEASE_SECONDS,
            )

    async def lost(self, topic: str, partition: int) -> None:
        """Stop at once: another owner has the partition already."""
        owned = self._owned.pop(partition, None)
        if owned is not None:
            owned.closing = True
            if owned.task is not None:
                # Not awaited: the new owner's claim fences the writes of this turn, and its position is never
                # committed.
                owned.task.cancel()
            await self._release(owned)

    async def _release(self, owned: OwnedPartition[S]) -> None:
        if owned.timer is not None:
            owned.timer.cancel()
        self._claims.release(owned)
        await self._handler.on_release(owned.state)

    def deliver(self, topic: str, partition: int, records: Sequence[Incoming]) -> None:
        """Queue records; the log is paused while the queue is long."""
        owned = self._owned.get(partition)
        if owned is None:
            return
        if records[0].offset < owned.expected:
            self._rejoin_recreated(owned, records[0].offset)
            return
        owned.expected = records[-1].offset + 1
        self._recreation.delivered(partition, records)
        owned.queue.extend(records)
        owned.wake.set()
        if owned.queue.is_long and not owned.paused:
            owned.paused = True
            self._membership.pause(partition)

    def _rejoin_recreated(self, owned: OwnedPartition[S], offset: int) -> None:
        """React to an offset that goes back. One assignment never delivers a record twice, so the topic was
        deleted and created again."""
        if not self._membership.is_rejoining:
            log.error(
                "%s/%d delivered offset %d after %d, so the topic was deleted and created again: "
                "joining the group again",
                self._handler.topic,
                owned.number,
                offset,
                owned.expected - 1,
            )
            self._membership.rejoin()
