"""A member of a Kafka consumer group.

One thread owns the consumer: it polls, passes batches to the event loop, runs commands, and waits for the listener
during a rebalance. A partition is fetched only after its listener has taken it over. Until then the group counts
it as assigned and librdkafka does not, so that the takeover blocks neither polling nor other partitions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from anabranch.adapters.kafka.commands import Commands
from anabranch.adapters.kafka.config import KafkaSettings
from anabranch.adapters.kafka.faults import translate
from anabranch.adapters.kafka.fetching import Batches, Pace, fetch
from anabranch.adapters.kafka.logs import LOGGER
from anabranch.adapters.kafka.offsets import OffsetKeeper, commit_now, first_error
from anabranch.adapters.kafka.polling import PollingThread
from anabranch.adapters.lifecycle import REVOKE_SECONDS, PartitionLifecycle, TopicPartition
from anabranch.adapters.limits import check_position
from anabranch.adapters.session_lease import SessionLease
from anabranch.core.errors import AnabranchError
from anabranch.ports import Committed, PartitionListener

_GRACE_SECONDS = 2.0

_log = logging.getLogger("anabranch.kafka")


class KafkaMembership:
    """A live member; see `ports.Membership`. `start` must be called once, on the loop."""

    def __init__(
        self, settings: KafkaSettings, group: str, topics: Sequence[str], listener: PartitionListener
    ) -> None:
        self._topics = list(topics)
        self._brokers = settings.brokers
        self._what = f"{', '.join(topics)} as a member of group {group}"
        self._denied: str | None = None
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._consumer = Consumer(settings.member(group) | {"on_commit": self._on_commit}, logger=LOGGER)
        self._commands = Commands(self._consumer)
        self._lease = SessionLease(settings.session_seconds)
        self._offsets = OffsetKeeper(self._commands, settings.brokers, self._is_assigned, self._lease)
        self._lifecycle = PartitionLifecycle(listener, self._offsets.look_up, self._opened)
        self._thread = PollingThread(f"anabranch-consumer-{group}", self._poll, self._leave)
        self._pace = Pace()
        # Changed in the thread only. The value is a token of the assignment: commands of an earlier one are
        # ignored.
        self._assigned: dict[TopicPartition, object] = {}
        self._fetching: set[TopicPartition] = set()

    def start(self) -> None:
        """Join the group."""
        # Called on the loop, which is safe because the thread has not started.
        self._consumer.subscribe(
            self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        self._thread.start()

    async def commit(self, topic: str, partition: int, position: Committed) -> None:
        """See `ports.Membership`."""
        check_position(position)
        if self._is_assigned((topic, partition)):
            await self._offsets.commit((topic, partition), position)

    async def confirm(self, topic: str, partition: int, position: Committed) -> bool:
        """See `ports.Membership`. The coordinator refuses the commit of a member that it has expelled."""
        check_position(position)
        if not self._is_assigned((topic, partition)):
            return False
        try:
            await self._offsets.commit((topic, partition), position)
        except AnabranchError as error:
            _log.warning(
                "cannot confirm that this consumer still owns %s/%d, acting as if it does not: %s",
                topic,
                partition,
                error,
            )
            return False
        return True

    def is_confirmed(self) -> bool:
        """See `ports.Membership`."""
        # A response may confirm the lease of a member that is leaving.
        return not self.is_closed and self._lease.holds(time.monotonic())  # noqa: TID251  # no other process's time

    def pause(self, topic: str, partition: int) -> None:
        """See `ports.Membership`."""
        self._submit_if_open(Consumer.pause, (topic, partition))

    def resume(self, topic: str, partition: int) -> None:
        """See `ports.Membership`."""
        self._submit_if_open(Consumer.resume, (topic, partition))

    def unhealthy_reason(self) -> str | None:
        """See `ports.Membership`."""
        return self._denied or self._thread.unhealthy_reason()

    @property
    def is_closed(self) -> bool:
        """True once the member has left, or is leaving."""
        return self._thread.stopping

    async def close(self) -> None:
        """See `ports.Membership`."""
        await self._thread.stop()

    # --- on the loop

    def _begin(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._lifecycle.begin(partition)

    def _opened(self, partition: TopicPartition, start: int | None, committed: Committed | None) -> None:
        if start is None:
            start = committed.offset if committed else OFFSET_BEGINNING
        self._commands.submit(self._start_fetching, partition, start, self._assigned.get(partition))

    def _deliver(self, batches: Batches) -> None:
        # Records of a partition that was revoked meanwhile are dropped: its next owner reads them.
        for partition, records in batches.items():
            if self._lifecycle.is_open(partition):
                self._listener.deliver(*partition, records)

    def _submit_if_open(self, action: Any, partition: TopicPartition) -> None:
        if self._lifecycle.is_open(partition):
            self._commands.submit(self._apply, action, partition, self._assigned.get(partition))

    # --- in the consumer's thread

    def _poll(self) -> None:
        if self._commands.run_pending():
            self._pace.quicken()
        batches = fetch(self._consumer, self._pace.seconds(), self._note_denied)
        if batches:
            self._pace.quicken()
            # Backpressure: a busy loop gets at most one batch ahead.
            self._thread.hand_over(self._deliver, batches)

    def _note_denied(self, error: KafkaError) -> None:
        """Keep the denial for health checks: librdkafka retries by itself, but cannot succeed."""
        if self._denied is None:
            self._denied = str(translate(error, self._brokers, f"reading {self._what}"))
            _log.error("the Kafka consumer gets no records, its service is unhealthy: %s", self._denied)

    def _start_fetching(self, consumer: Consumer, partition: TopicPartition, start: int, token: object) -> None:
        if token is not None and self._assigned.get(partition) is token:
            consumer.incremental_assign([Place(*partition, start)])
            self._fetching.add(partition)
            consumer.resume([Place(*partition)])

    def _apply(self, consumer: Consumer, action: Any, partition: TopicPartition, token: object) -> None:
        if self._assigned.get(partition) is token and partition in self._fetching:
            action(consumer, [Place(*partition)])

    def _on_assign(self, consumer: Consumer, places: Sequence[Place]) -> None:
        partitions = _partitions(places)
        # An explicit empty assignment: if this callback assigned nothing, the client would assign all partitions,
        # and fetch them before their takeover.
        consumer.incremental_assign([])
        self._assigned.update((partition, object()) for partition in partitions)
        self._pace.quicken()
        self._thread.post(self._begin, partitions)

    def _on_revoke(self, consumer: Consumer, places: Sequence[Place]) -> None:
        partitions = _partitions(places)
        positions = self._wait_for(self._lifecycle.revoke(partitions)) or {}
        try:
            if positions:
                # Synchronously: when this callback returns, the group may assign the partitions to other members.
                commit_now(consumer, positions)
        except KafkaException:
            _log.exception("committing revoked partitions failed; their records will be delivered again")
        finally:
            self._drop(consumer, partitions)

    def _on_lost(self, consumer: Consumer, places: Sequence[Place]) -> None:
        partitions = _partitions(places)
        self._lease.end()
        self._wait_for(self._lifecycle.lose(partitions))
        self._drop(consumer, partitions)

    def _on_commit(self, error: KafkaError | None, places: Sequence[Place]) -> None:
        self._thread.post(self._offsets.acknowledge, first_error(error, places))

    def _drop(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        fetched = [partition for partition in partitions if partition in self._fetching]
        for partition in partitions:
            self._assigned.pop(partition, None)
        self._fetching.difference_update(fetched)
        consumer.incremental_unassign([Place(*partition) for partition in fetched])

    def _wait_for(self, callbacks: Coroutine[Any, Any, Any]) -> Any:
        """Run the listener's callbacks on the loop, within a time limit, because the group waits. Commands still
        run."""
        try:
            future = asyncio.run_coroutine_threadsafe(callbacks, self._loop)
        except RuntimeError:
            # The loop is closed, so the coroutine will never run; closing it avoids a warning.
            callbacks.close()
            return None
        if not self._commands.run_until(future, REVOKE_SECONDS + _GRACE_SECONDS):
            future.cancel()
            _log.error(
                "the listener did not release its partitions within %g s; nothing is committed for them, and "
                "their next owner repeats records",
                REVOKE_SECONDS + _GRACE_SECONDS,
            )
            return None
        return future.result()

    def _leave(self) -> None:
        self._commands.run_pending()
        # `close` revokes the partitions, and their callbacks queue commands. Commands run before and after it, and
        # are refused only then.
        self._consumer.close()
        self._commands.close()
        self._commands.run_pending()

    def _is_assigned(self, partition: TopicPartition) -> bool:
        return partition in self._assigned


def _partitions(places: Iterable[Place]) -> list[TopicPartition]:
    return [(place.topic, place.partition) for place in places]
