"""Reads and commits the positions of a group, with their metadata.

One commit is in flight at a time; positions that arrive meanwhile are combined into the next one. Everything runs
on the event loop, except calls of the consumer, which run in its thread.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from anabranch.adapters.kafka.commands import Commands
from anabranch.adapters.kafka.faults import error_of, translate
from anabranch.adapters.lifecycle import TopicPartition
from anabranch.adapters.session_lease import SessionLease
from anabranch.core.errors import ServerUnavailable
from anabranch.ports import Committed

LOOKUP_SECONDS = 10.0
COMMIT_SECONDS = 10.0
RETRY_SECONDS = 0.1

Positions = Mapping[TopicPartition, Committed]


class OffsetKeeper:
    """Positions of one member.

    Args:
        assigned: returns True for a partition that the member has.
        lease: confirmed by each commit that the coordinator accepts.
    """

    def __init__(
        self,
        commands: Commands[Consumer],
        brokers: str,
        assigned: Callable[[TopicPartition], bool],
        lease: SessionLease,
    ) -> None:
        self._commands = commands
        self._brokers = brokers
        self._assigned = assigned
        self._lease = lease
        self._pending: dict[TopicPartition, Committed] = {}
        self._next: asyncio.Task[None] | None = None
        self._commit_lock = asyncio.Lock()
        self._answer: asyncio.Future[KafkaError | None] | None = None
        self._sent_at: deque[float] = deque()
        """When each commit was sent that has no response, by the monotonic clock, in the order of sending."""
        self._wanted: list[TopicPartition] = []
        self._lookup: asyncio.Task[Mapping[TopicPartition, Committed | None]] | None = None

    async def look_up(self, partition: TopicPartition) -> Committed | None:
        """The committed position, None if there is none. Calls in one iteration of the event loop share a request.

        Raises KafkaException."""
        self._wanted.append(partition)
        if self._lookup is None:
            self._lookup = asyncio.ensure_future(self._look_up_wanted())
        # Shielded, because other callers share the request.
        return (await asyncio.shield(self._lookup))[partition]

    async def commit(self, partition: TopicPartition, position: Committed) -> None:
        """Commit with the next request. Returns when the coordinator has it; raises ServerUnavailable."""
        self._pending[partition] = position
        if self._next is None:
            self._next = asyncio.ensure_future(self._commit_pending())
        # Shielded, because other callers share the request.
        await asyncio.shield(self._next)

    def acknowledge(self, error: KafkaError | None) -> None:
        """Take the coordinator's response to the oldest commit without one.

        Nobody may wait for that one any more, and its response is taken for that of a later commit then. The lease
        counts from the time of its own commit in any case."""
        sent_at = self._sent_at.popleft() if self._sent_at else -math.inf
        if error is None:
            self._lease.confirm(sent_at)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(error)

    async def _look_up_wanted(self) -> Mapping[TopicPartition, Committed | None]:
        # Lets other calls of this loop iteration join the request.
        await asyncio.sleep(0)
        wanted, self._wanted, self._lookup = self._wanted, [], None
        return await self._commands.call(_look_up, wanted)

    async def _commit_pending(self) -> None:
        # Lets other calls of this loop iteration join the request.
        await asyncio.sleep(0)
        async with self._commit_lock:
            # Taken only now: positions that arrived during the commit before are part of this one.
            positions, self._pending, self._next = self._pending, {}, None
            try:
                async with asyncio.timeout(COMMIT_SECONDS):
                    await self._until_committed(positions)
            except TimeoutError:
                raise ServerUnavailable(
                    "Kafka", self._brokers, f"the group coordinator accepted no commit for {COMMIT_SECONDS:g} s"
                ) from None

    async def _until_committed(self, positions: Positions) -> None:
        """Retry while the group rebalances; positions of partitions that moved to another member are dropped."""
        while mine := {partition: at for partition, at in positions.items() if self._assigned(partition)}:
            error = await self._commit_once(mine)
            if error is None or error.code() == KafkaError._NO_OFFSET:
                return
            if error.fatal() or error.code() == KafkaError.OFFSET_METADATA_TOO_LARGE:
                raise translate(error, self._brokers, "committing offsets")
            await asyncio.sleep(RETRY_SECONDS)

    async def _commit_once(self, positions: Positions) -> KafkaError | None:
        self._answer = asyncio.get_running_loop().create_future()
        try:
            await self._commands.call(self._send, positions)
            return await self._answer
        except KafkaException as refused:
            return error_of(refused)
        finally:
            self._answer = None

    def _send(self, consumer: Consumer, positions: Positions) -> None:
        """Commit, in the consumer's thread. Its response comes in the same thread, thus later. Raises
        KafkaException, without a response."""
        sent_at = time.monotonic()  # noqa: TID251  # compared with no other process's time
        consumer.commit(offsets=_places(positions), asynchronous=True)
        self._sent_at.append(sent_at)


def commit_now(consumer: Consumer, positions: Positions) -> None:
    """Commit synchronously, in the consumer's thread. Raises KafkaException."""
    for place in consumer.commit(offsets=_places(positions), asynchronous=False) or ():
        if place.error is not None:
            raise KafkaException(place.error)


def first_error(error: KafkaError | None, places: Sequence[Place]) -> KafkaError | None:
    """The request's error, else the first partition's."""
    return error or next((place.error for place in places if place.error is not None), None)


def _look_up(
    consumer: Consumer, partitions: Sequence[TopicPartition]
) -> Mapping[TopicPartition, Committed | None]:
    found: dict[TopicPartition, Committed | None] = {}
    for place in consumer.committed([Place(*partition) for partition in partitions], LOOKUP_SECONDS):
        if place.error is not None:
            raise KafkaException(place.error)
        committed = Committed(place.offset, place.metadata or "") if place.offset >= 0 else None
        found[place.topic, place.partition] = committed
    return found


def _places(positions: Positions) -> list[Place]:
    return [Place(topic, partition, at.offset, at.metadata) for (topic, partition), at in positions.items()]
