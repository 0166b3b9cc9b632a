"""Delivers events to webhooks: one gateway for each partition of the events topic, at least once, with retries.

A position is committed when every delivery up to it has ended: delivered, or written as a dead letter. Each
project and endpoint has a share of pending deliveries and threads, and each endpoint a circuit breaker, so an
unavailable endpoint does not delay the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import ValidationError

from anabranch.core.errors import AnabranchError
from anabranch.core.offsets import OffsetTracker
from anabranch.core.telemetry import GATEWAY_DELIVERIES
from anabranch.core.wire import dead_letters
from anabranch.core.wire.events import EventBatch, decode_batch
from anabranch.ports import Incoming, Outgoing, Telemetry
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.ownership.consumer import Consumer
from anabranch.runtime.until_available import until_available
from anabranch.sdk.client import Client
from anabranch_gateway.access.project_cache import RunProjects
from anabranch_gateway.events.broadcaster import EventBroadcaster
from anabranch_gateway.events.cursor import StreamPosition
from anabranch_gateway.webhooks.circuit_breaker import CircuitBreaker
from anabranch_gateway.webhooks.delivery_shares import THREADS, Endpoint, ThreadShares, WaitingShares
from anabranch_gateway.webhooks.subscriptions import SubscriptionRegistry
from anabranch_gateway.webhooks.webhooks import (
    RETRY_SECONDS,
    Subscription,
    WebhookDelivery,
    after,
    deliveries,
    headers_of,
)

T = TypeVar("T")

Post = Callable[[str, bytes, dict[str, str]], None]
"""Sends one POST and returns where it was taken; raises AnabranchError with what went wrong. Blocks."""

BATCH = 100
QUEUE = 2_000
YIELD_DELIVERIES = 100
"""Deliveries started before yielding to the event loop: a batch of a wide task has very many."""
AWAY_SECONDS = 1.0
KEPT_RUNS = 20_000
MAX_BREAKERS = 20_000

_log = logging.getLogger("anabranch.gateway")


@dataclass(slots=True)
class _Open:
    """A record of which deliveries are under way."""

    record: Incoming
    """Position of the event's record; the value is not kept."""
    left: int = 1


class WebhookDispatcher:
    """See the module. `post` runs in threads of its own."""

    def __init__(
        self,
        client: Client,
        live: EventBroadcaster,
        subscriptions: SubscriptionRegistry,
        projects: RunProjects,
        post: Post,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._telemetry = telemetry
        self._client = client
        self._live = live
        self._subscriptions = subscriptions
        self._projects = projects
        self._post = post
        self._inbox: Consumer | None = None
        self._executor = ThreadPoolExecutor(THREADS, "webhook")
        self._waiting = WaitingShares()
        self._threads = ThreadShares(lambda endpoint: self._breaker(endpoint).is_proven)
        self._breakers: OrderedDict[Endpoint, CircuitBreaker] = OrderedDict()
        self._trackers: dict[int, OffsetTracker] = {}
        self._records: dict[int, deque[Incoming]] = {}
        self._known: OrderedDict[str, StreamPosition] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def unhealthy_reason(self) -> str | None:
        """Why nothing may be delivered; None where it may."""
        return None if self._inbox is None else self._inbox.unhealthy_reason

    async def run(self) -> None:
        """Deliver until cancelled; then what is under way is left to whoever reads the partition next."""
        await self._subscriptions.read()
        names = self._client.names
        self._inbox = inbox = Consumer(self._client.log, names.gateway_webhooks, names.events, most=QUEUE)
        await inbox.start()
        try:
            while True:
                for record in await inbox.take(BATCH):
                    await self._handle(record)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await inbox.stop()
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _handle(self, record: Incoming) -> None:
        tracker = self._trackers.setdefault(record.partition, OffsetTracker())
        if not tracker.started(record.offset):
            return  # it was delivered to this process before, and is under way or done
        opened = _Open(replace(record, value=b"", headers=()))
        self._records.setdefault(record.partition, deque()).append(opened.record)
        try:
            if self._subscriptions.webhooks and (batch := _batch(record)) is not None:
                await self._deliver_all(batch, opened)
        except Exception:  # noqa: BLE001
            # A bug triggered by one record must not stop the deliveries of all projects.
            _log.exception("cannot deliver the events at %s, no webhook gets them", _place(record))
        self._one_done(opened)

    async def _deliver_all(self, batch: EventBatch, opened: _Open) -> None:
        wanted = await self._wanted(batch, opened.record.timestamp)
        if not wanted:
            if batch.run_id in self._known:
                self._keep(batch.run_id, after(batch, self._known[batch.run_id]))
            return
        before = await until_available(
            lambda: self._knowledge(batch.run_id, opened.record),
            f"deliver webhooks of run {batch.run_id}",
            delay=AWAY_SECONDS,
        )
        refused: list[Outgoing] = []
        for count, delivery in enumerate(deliveries(batch, before, wanted), 1):
            reason = self._waiting.refusal(delivery.endpoint)
            if reason is None:
                self._begin(delivery, opened)
            else:
                refused.append(self._letter(delivery, reason, opened.record))
            if count % YIELD_DELIVERIES == 0:
                await asyncio.sleep(0)
        self._keep(batch.run_id, after(batch, before))
        await self._bury(refused)

    def _begin(self, delivery: WebhookDelivery, opened: _Open) -> None:
        opened.left += 1
        self._waiting.add(delivery.endpoint)
        task = asyncio.create_task(self._deliver(delivery, opened), name="webhook delivery")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wanted(self, batch: EventBatch, at: float) -> dict[str, Subscription]:
        what = f"deliver webhooks of run {batch.run_id}"
        projects = await until_available(lambda: self._projects.of([batch.run_id]), what, delay=AWAY_SECONDS)
        project = projects.get(batch.run_id)
        if project is None:
            return {}
        found = self._subscriptions.webhooks
        return {each.id: each for each in found.values() if each.wants(batch, project, at)}

    async def _knowledge(self, run_id: str, record: Incoming) -> StreamPosition:
        """What a reader of the run knows before a record: read again where this process has not followed it."""
        known = self._known.get(run_id)
        if known is not None:
            return known
        known = StreamPosition()
        async with aclosing(self._live.history(run_id, record.partition, 0, record.offset)) as records:
            async for each in records:
                if each.batch is not None:
                    known = after(each.batch, known)
        return known

    def _keep(self, run_id: str, known: StreamPosition) -> None:
        self._known[run_id] = known
        self._known.move_to_end(run_id)
        while len(self._known) > KEPT_RUNS:
            self._known.popitem(last=False)

    # --- one delivery --------------------------------------------------------------------------------

    async def _deliver(self, delivery: WebhookDelivery, opened: _Open) -> None:
        try:
            reason = await self._attempts(delivery)
            if reason is not None:
                await self._bury([self._letter(delivery, reason, opened.record)])
        finally:
            self._waiting.remove(delivery.endpoint)
        self._one_done(opened)

    async def _attempts(self, delivery: WebhookDelivery) -> str | None:
        """Try until it is taken; the reason where it will not be. What was unsubscribed is done with."""
        reason: str | None = None
        for delay in (*RETRY_SECONDS, None):
            if delivery.subscription.id not in self._subscriptions.webhooks:
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
        reason = await breaker.passage()
        if reason is not None:
            return f"not attempted, because the probe of the endpoint failed: {reason}"
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
            self._forget_breakers()
        return found

    def _forget_breakers(self) -> None:
        """Evict the oldest unused breakers if there are too many."""
        surplus = len(self._breakers) - MAX_BREAKERS
        unused = [each for each in self._breakers if not self._waiting.has(each)] if surplus > 0 else []
        for endpoint in unused[:surplus]:
            del self._breakers[endpoint]

    async def _send(self, delivery: WebhookDelivery) -> str | None:
        loop = asyncio.get_running_loop()
        try:
            headers = headers_of(delivery, self._client.links.clock.now())
            await loop.run_in_executor(
                self._executor, self._post, delivery.subscription.target, delivery.body, headers
            )
        except AnabranchError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001
            # A bug or an invalid secret: the delivery ends as a dead letter, and the position is committed.
            _log.exception(
                "an internal error ends the delivery to %s as a dead letter",
                delivery.subscription.target,
            )
            return f"internal error of the gateway: {type(error).__name__}: {error}"
        return None

    def _letter(self, delivery: WebhookDelivery, reason: str, record: Incoming) -> Outgoing:
        return _letter(self._client.names.dead_letters, delivery, reason, record)

    async def _bury(self, found: Sequence[Outgoing]) -> None:
        if found:
            what = f"publish {len(found)} dead letters of webhooks"
            await until_available(lambda: self._client.log.publish(found), what, delay=AWAY_SECONDS)
            self._telemetry.count(GATEWAY_DELIVERIES, len(found), outcome="dead_letter")

    def _one_done(self, opened: _Open) -> None:
        opened.left -= 1
        if opened.left:
            return
        record = opened.record
        tracker = self._trackers[record.partition]
        before = tracker.committable()
        tracker.finished(record.offset)
        following = tracker.committable()
        if following is None or following == before:
            return
        records = self._records[record.partition]
        last = records[0]
        while records and records[0].offset < following:
            last = records.popleft()
        if self._inbox is not None:
            self._inbox.done([last])


def _batch(record: Incoming) -> EventBatch | None:
    try:
        return decode_batch(record.value)
    except ValidationError:  # a subscription or another record that is not an event
        return None


def _place(record: Incoming) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def _letter(topic: str, delivery: WebhookDelivery, reason: str, record: Incoming) -> Outgoing:
    """The event that could not be delivered, with why."""
    text = f"{delivery.subscription.target}: {reason}"
    headers = {
        dead_letters.CODE: dead_letters.WEBHOOK_FAILED.encode(),
        dead_letters.REASON: text.encode("utf-8", "replace")[:8_192],
        dead_letters.ORIGIN: _place(record).encode(),
        dead_letters.SIGNATURE: dead_letters.signature(
            dead_letters.WEBHOOK_FAILED, reason, subject=delivery.subscription.id
        ).encode(),
        dead_letters.LETTER_ID: delivery.id.encode(),
        dead_letters.PROJECT: delivery.subscription.project.encode(),
    }
    return Outgoing(topic, delivery.run_id, delivery.body, headers=headers)
