"""Delivers events to webhooks at least once, with retries. Each partition of the events topic has one gateway.

An offset is committed when all deliveries of the records before it have ended: delivered, or written as a dead
letter. Each project and endpoint has a share of pending deliveries and threads, and each endpoint a circuit
breaker, so an unavailable endpoint does not delay the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from pydantic import ValidationError

from anabranch.core.bounded import BoundedDict
from anabranch.core.errors import AnabranchError
from anabranch.core.event_sources import is_of_run
from anabranch.core.offsets import OffsetTracker
from anabranch.core.telemetry import GATEWAY_DELIVERIES
from anabranch.core.wire import dead_letters
from anabranch.core.wire.events import EventBatch, decode_batch
from anabranch.ports import Incoming, Outgoing, Telemetry
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.ownership.consumer import Consumer
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.until_available import until_available
from anabranch.sdk.client import Client
from anabranch_gateway.access.project_cache import ProjectCache
from anabranch_gateway.events.broadcaster import EventBroadcaster
from anabranch_gateway.events.cursor import StreamPosition
from anabranch_gateway.webhooks.circuit_breaker import CircuitBreaker
from anabranch_gateway.webhooks.delivery import (
    RETRY_SECONDS,
    WebhookDelivery,
    deliveries,
    position_after,
    project_named,
    signed_headers,
)
from anabranch_gateway.webhooks.fair_shares import THREADS, Endpoint, PendingShares, ThreadShares
from anabranch_gateway.webhooks.subscription import Subscription
from anabranch_gateway.webhooks.subscription_registry import SubscriptionRegistry

Send = Callable[[WebhookDelivery, dict[str, str]], None]
"""Makes one attempt of a delivery with these headers, and blocks until it was accepted. Raises AnabranchError for
any other outcome."""

BATCH = 100
MAX_QUEUED = 2_000
YIELD_DELIVERIES = 100
"""Deliveries started before yielding to the event loop: a batch of a wide task may have very many."""
UNAVAILABLE_SECONDS = 1.0
CACHED_RUNS = 20_000
"""Maximum runs whose position in their events is cached."""
MAX_BREAKERS = 20_000

_log = logging.getLogger("anabranch.gateway")


@dataclass(slots=True)
class _TrackedRecord:
    """A record whose deliveries have not all ended.

    `pending` is the number of open deliveries, plus 1 while further ones are being started.
    """

    record: Incoming
    """The record without value and headers: only its position is needed."""
    pending: int = 1


class WebhookDispatcher:
    """Consumes the events topic and delivers to the webhooks of the registry.

    Args:
        projects: cache of the projects of runs, which decide about subscriptions.
        send: runs in a thread pool of the dispatcher.
        supervisor: runs the deliveries; a crash of one ends the process.
    """

    def __init__(
        self,
        client: Client,
        broadcaster: EventBroadcaster,
        subscriptions: SubscriptionRegistry,
        projects: ProjectCache,
        send: Send,
        supervisor: Supervisor,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._telemetry = telemetry
        self._client = client
        self._broadcaster = broadcaster
        self._subscriptions = subscriptions
        self._projects = projects
        self._send_now = send
        self._consumer: Consumer | None = None
        self._executor = ThreadPoolExecutor(THREADS, "webhook")
        self._pending = PendingShares()
        self._threads = ThreadShares(lambda endpoint: self._breaker(endpoint).is_proven)
        self._breakers: dict[Endpoint, CircuitBreaker] = {}
        self._trackers: dict[int, OffsetTracker] = {}
        self._records: dict[int, deque[Incoming]] = {}
        self._run_positions: BoundedDict[str, StreamPosition] = BoundedDict(CACHED_RUNS)
        # Weak: a lock lives as long as a delivery holds it or waits for it.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._supervisor = supervisor
        self._tasks = supervisor.tasks()

    @property
    def unhealthy_reason(self) -> str | None:
        """Why nothing is delivered at the moment; None if it works."""
        return None if self._consumer is None else self._consumer.unhealthy_reason

    async def run(self) -> None:
        """Deliver until cancelled.

        Unfinished deliveries are not committed, so the partition's next owner makes them.
        """
        await self._subscriptions.wait_until_read()
        names = self._client.names
        self._consumer = consumer = Consumer(
            self._client.log, names.gateway_webhooks, names.events, self._supervisor, max_queued=MAX_QUEUED
        )
        await consumer.start()
        try:
            while True:
                for record in await consumer.take(BATCH):
                    await self._handle(record)
        finally:
            # Deliveries end before the partitions are given up: their next owner makes them again.
            await self._tasks.cancel()
            await consumer.stop()
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _handle(self, record: Incoming) -> None:
        tracker = self._trackers.setdefault(record.partition, OffsetTracker())
        if not tracker.started(record.offset):
            return  # redelivered after a rebalance: this process has it in work, or has finished it
        # Thousands of records may be pending: they must not keep their values in memory.
        tracked = _TrackedRecord(replace(record, value=b"", headers=()))
        self._records.setdefault(record.partition, deque()).append(tracked.record)
        try:
            if self._subscriptions.delivered and (batch := _batch(record)) is not None:
                await self._deliver_all(batch, tracked)
        except Exception:  # noqa: BLE001
            # A bug triggered by one record must not stop the deliveries of all projects.
            _log.exception("cannot deliver the events at %s, no webhook gets them", _location(record))
        self._finish(tracked)

    async def _deliver_all(self, batch: EventBatch, tracked: _TrackedRecord) -> None:
        wanted = await self._subscribers(batch, tracked.record.timestamp)
        if not wanted:
            position = self._run_positions.get(batch.run_id)
            if position is not None:
                # Else the cached position would give later events a `seq` that is too low.
                self._run_positions[batch.run_id] = position_after(batch, position)
            return
        before = await until_available(
            lambda: self._position_before(batch.run_id, tracked.record),
            f"deliver webhooks of run {batch.run_id}",
            delay=UNAVAILABLE_SECONDS,
        )
        refused: list[Outgoing] = []
        for count, delivery in enumerate(deliveries(batch, before, wanted), 1):
            reason = self._pending.refusal(delivery.endpoint)
            if reason is None:
                self._start(delivery, tracked)
            else:
                refused.append(self._dead_letter_record(delivery, reason, tracked.record))
            if count % YIELD_DELIVERIES == 0:
                await asyncio.sleep(0)
        # Computed from the batch, because `deliveries` advances a sequence of its own.
        self._run_positions[batch.run_id] = position_after(batch, before)
        await self._dead_letter(refused)

    def _start(self, delivery: WebhookDelivery, tracked: _TrackedRecord) -> None:
        tracked.pending += 1
        self._pending.add(delivery.endpoint)
        self._tasks.spawn(self._deliver(delivery, tracked), "webhook delivery")

    async def _subscribers(self, batch: EventBatch, at: float) -> dict[str, Subscription]:
        project = project_named(batch)
        if project is None:
            projects = await until_available(
                lambda: self._projects.projects([batch.run_id]),
                f"deliver webhooks of run {batch.run_id}",
                delay=UNAVAILABLE_SECONDS,
            )
            project = projects.get(batch.run_id)
        if project is None:
            return {}
        found = self._subscriptions.delivered
        return {each.id: each for each in found.values() if each.matches(batch, project, at)}

    async def _position_before(self, run_id: str, record: Incoming) -> StreamPosition:
        """The position in a run's events before a record.

        It determines the `seq` of events, and so the ids of deliveries, which must not depend on the process. If
        it is not cached the run is replayed from its beginning. Events of schedules and breakers are not counted.
        """
        position = self._run_positions.get(run_id)
        if position is not None:
            return position
        position = StreamPosition()
        if not is_of_run(run_id):
            return position
        async with aclosing(self._broadcaster.history(run_id, record.partition, 0, record.offset)) as records:
            async for each in records:
                if each.batch is not None:
                    position = position_after(each.batch, position)
        return position

    # --- one delivery --------------------------------------------------------------------------------

    async def _deliver(self, delivery: WebhookDelivery, tracked: _TrackedRecord) -> None:
        try:
            async with self._turn_of(delivery):
                reason = await self._attempts(delivery)
            if reason is not None:
                await self._dead_letter([self._dead_letter_record(delivery, reason, tracked.record)])
        finally:
            self._pending.remove(delivery.endpoint)
        # Not in `finally`: a cancelled delivery must not be committed.
        self._finish(tracked)

    def _turn_of(self, delivery: WebhookDelivery) -> AbstractAsyncContextManager[object]:
        """Deliveries of one alert wait here for those before them. The lock is fair."""
        if delivery.order is None:
            return nullcontext()
        return self._turns.setdefault(delivery.order, asyncio.Lock())

    async def _attempts(self, delivery: WebhookDelivery) -> str | None:
        """Make attempts until one succeeds; returns the last error if all fail.

        Ends early after an unsubscribe.
        """
        reason: str | None = None
        for delay in (*RETRY_SECONDS, None):
            if delivery.subscription.id not in self._subscriptions.delivered:
                return None
            reason = await self._attempt(delivery)
            if reason is None:
                self._telemetry.count(GATEWAY_DELIVERIES, outcome="delivered")
                return None
            if delay is not None:
                self._telemetry.count(GATEWAY_DELIVERIES, outcome="retried")
                await asyncio.sleep(delay)
        return reason

    async def _attempt(self, delivery: WebhookDelivery) -> str | None:
        """Make one attempt; returns its error, or None. With an open circuit breaker only the probe calls the
        endpoint."""
        breaker = self._breaker(delivery.endpoint)
        reason = await breaker.admission()
        if reason is not None:
            return f"not attempted, because the probe of the endpoint failed: {reason}"
        # After the admission, so that attempts that wait for a probe do not hold a thread.
        async with self._threads.thread(delivery.endpoint):
            reason = await self._send(delivery)
            if reason is None:
                breaker.succeeded()
            else:
                breaker.failed(reason)
        return reason

    def _breaker(self, endpoint: Endpoint) -> CircuitBreaker:
        found = self._breakers.get(endpoint)
        if found is None:
            found = self._breakers[endpoint] = CircuitBreaker(self._client.links.clock)
            self._evict_breakers()
        return found

    def _evict_breakers(self) -> None:
        """Evict the oldest breakers if there are too many, but none whose endpoint has pending deliveries."""
        surplus = len(self._breakers) - MAX_BREAKERS
        unused = [each for each in self._breakers if not self._pending.has(each)] if surplus > 0 else []
        for endpoint in unused[:surplus]:
            del self._breakers[endpoint]

    async def _send(self, delivery: WebhookDelivery) -> str | None:
        loop = asyncio.get_running_loop()
        try:
            headers = signed_headers(delivery, self._client.links.clock.now())
            await loop.run_in_executor(self._executor, self._send_now, delivery, headers)
        except AnabranchError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001
            # A bug or an invalid secret: the delivery ends as a dead letter, so that its offset can be committed.
            _log.exception(
                "an internal error ends the delivery to %s as a dead letter",
                delivery.subscription.target,
            )
            return f"internal error of the gateway: {type(error).__name__}: {error}"
        return None

    def _dead_letter_record(self, delivery: WebhookDelivery, reason: str, record: Incoming) -> Outgoing:
        return _dead_letter_record(self._client.names.dead_letters, delivery, reason, record)

    async def _dead_letter(self, found: Sequence[Outgoing]) -> None:
        if found:
            what = f"publish {len(found)} dead letters of webhooks"
            await until_available(lambda: self._client.log.publish(found), what, delay=UNAVAILABLE_SECONDS)
            self._telemetry.count(GATEWAY_DELIVERIES, len(found), outcome="dead_letter")

    def _finish(self, tracked: _TrackedRecord) -> None:
        tracked.pending -= 1
        if tracked.pending:
            return
        record = tracked.record
        tracker = self._trackers[record.partition]
        before = tracker.committable()
        tracker.finished(record.offset)
        following = tracker.committable()
        # Deliveries end out of order. Only the unbroken sequence of finished records may be committed.
        if following is None or following == before:
            return
        records = self._records[record.partition]
        last = records[0]
        while records and records[0].offset < following:
            last = records.popleft()
        if self._consumer is not None:
            self._consumer.done([last])


def _batch(record: Incoming) -> EventBatch | None:
    try:
        return decode_batch(record.value)
    except ValidationError:  # a subscription or another record that is not an event
        return None


def _location(record: Incoming) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def _dead_letter_record(topic: str, delivery: WebhookDelivery, reason: str, record: Incoming) -> Outgoing:
    """The dead letter of an event that could not be delivered, with the reason in its headers."""
    text = f"{delivery.subscription.target}: {reason}"
    headers = {
        dead_letters.CODE: dead_letters.WEBHOOK_FAILED.encode(),
        dead_letters.REASON: text.encode("utf-8", "replace")[:8_192],
        dead_letters.ORIGIN: _location(record).encode(),
        dead_letters.SIGNATURE: dead_letters.signature(
            dead_letters.WEBHOOK_FAILED, reason, subject=delivery.subscription.id
        ).encode(),
        dead_letters.DEAD_LETTER_ID: delivery.id.encode(),
        dead_letters.PROJECT: delivery.subscription.project.encode(),
    }
    return Outgoing(topic, delivery.run_id, delivery.body, headers=headers)
