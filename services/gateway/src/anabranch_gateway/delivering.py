"""Delivers events to webhooks: one gateway for each partition of the events topic, at least once, with retries.

A position is committed when every delivery up to it has come to an end: answered, or made a dead letter.
Deliveries that wait are bounded, for all and for each subscription: an endpoint that is away holds up nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass

from pydantic import ValidationError

from anabranch.core import letters
from anabranch.core.errors import AnabranchError, ServerUnavailable, StoreRefused
from anabranch.core.events import EventBatch, decode_batch
from anabranch.core.offsets import OffsetTracker
from anabranch.core.telemetry import GATEWAY_DELIVERIES
from anabranch.ports import Incoming, Outgoing, Telemetry
from anabranch.runtime.inbox import Inbox
from anabranch.runtime.telemetry import NO_TELEMETRY
from anabranch.sdk.client import Client
from anabranch_gateway.live import LiveEvents
from anabranch_gateway.places import Knowledge
from anabranch_gateway.projects import RunProjects
from anabranch_gateway.subscriptions import Subscriptions
from anabranch_gateway.webhooks import RETRY_SECONDS, Delivery, Subscription, after, deliveries, headers_of

Post = Callable[[str, bytes, dict[str, str]], None]
"""Sends one POST and returns where it was taken; raises AnabranchError with what went wrong. Blocks."""

AT_ONCE = 16
MOST_WAITING = 2_000
MOST_WAITING_FOR_ONE = 500
BATCH = 100
QUEUE = 2_000
AWAY_SECONDS = 1.0
KEPT_RUNS = 20_000

_log = logging.getLogger("anabranch.gateway")


@dataclass(slots=True)
class _Open:
    """A record of which deliveries are under way."""

    record: Incoming
    left: int = 1


class Deliverer:
    """See the module. `post` runs in threads of its own."""

    def __init__(
        self,
        client: Client,
        live: LiveEvents,
        subscriptions: Subscriptions,
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
        self._inbox: Inbox | None = None
        self._threads = ThreadPoolExecutor(AT_ONCE, "webhook")
        self._room = asyncio.Semaphore(MOST_WAITING)
        self._waiting: Counter[str] = Counter()
        self._trackers: dict[int, OffsetTracker] = {}
        self._records: dict[tuple[int, int], Incoming] = {}
        self._known: OrderedDict[str, Knowledge] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def trouble(self) -> str | None:
        """Why nothing may be delivered; None where it may."""
        return None if self._inbox is None else self._inbox.trouble

    async def run(self) -> None:
        """Deliver until cancelled; then what is under way is left to whoever reads the partition next."""
        await self._subscriptions.read()
        names = self._client.names
        self._inbox = inbox = Inbox(self._client.log, names.gateway_webhooks, names.events, most=QUEUE)
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
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _handle(self, record: Incoming) -> None:
        tracker = self._trackers.setdefault(record.partition, OffsetTracker())
        if not tracker.started(record.offset):
            return  # it was delivered to this process before, and is under way or done
        self._records[record.partition, record.offset] = record
        opened = _Open(record)
        try:
            batch = decode_batch(record.value) if self._subscriptions.webhooks else None
        except ValidationError:
            batch = None
        if batch is not None:
            await self._deliver_all(batch, opened)
        self._one_done(opened)

    async def _deliver_all(self, batch: EventBatch, opened: _Open) -> None:
        wanted = await self._wanted(batch, opened.record.timestamp)
        if not wanted:
            if batch.run_id in self._known:
                self._keep(batch.run_id, after(batch, self._known[batch.run_id]))
            return
        before = await self._knowledge(batch.run_id, opened.record)
        for delivery in deliveries(batch, before, wanted):
            await self._room.acquire()
            opened.left += 1
            self._waiting[delivery.subscription.id] += 1
            task = asyncio.create_task(self._deliver(delivery, opened), name="webhook delivery")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._keep(batch.run_id, after(batch, before))

    async def _wanted(self, batch: EventBatch, at: float) -> dict[str, Subscription]:
        while True:
            try:
                projects = await self._projects.of([batch.run_id])
                break
            except (ServerUnavailable, StoreRefused) as error:
                _log.warning("webhooks wait: %s", error)
                await asyncio.sleep(AWAY_SECONDS)
        project = projects.get(batch.run_id)
        if project is None:
            return {}
        found = self._subscriptions.webhooks
        return {each.id: each for each in found.values() if each.wants(batch, project, at)}

    async def _knowledge(self, run_id: str, record: Incoming) -> Knowledge:
        """What a reader of the run knows before a record: read again where this process has not followed it."""
        known = self._known.get(run_id)
        if known is not None:
            return known
        known = Knowledge()
        async with aclosing(self._live.history(run_id, record.partition, 0, record.offset)) as records:
            async for each in records:
                if each.batch is not None:
                    known = after(each.batch, known)
        return known

    def _keep(self, run_id: str, known: Knowledge) -> None:
        self._known[run_id] = known
        self._known.move_to_end(run_id)
        while len(self._known) > KEPT_RUNS:
            self._known.popitem(last=False)

    # --- one delivery --------------------------------------------------------------------------------

    async def _deliver(self, delivery: Delivery, opened: _Open) -> None:
        try:
            reason = await self._attempts(delivery)
            if reason is not None:
                await self._bury(delivery, reason, opened.record)
        finally:
            self._room.release()
            self._waiting[delivery.subscription.id] -= 1
        self._one_done(opened)

    async def _attempts(self, delivery: Delivery) -> str | None:
        """Try until it is taken; the reason where it will not be. What was unsubscribed is done with."""
        if self._waiting[delivery.subscription.id] > MOST_WAITING_FOR_ONE:
            return f"over {MOST_WAITING_FOR_ONE} deliveries wait for {delivery.subscription.target}"
        reason = ""
        for delay in (*RETRY_SECONDS, None):
            if delivery.subscription.id not in self._subscriptions.webhooks:
                return None
            try:
                await self._send(delivery)
                self._telemetry.count(GATEWAY_DELIVERIES, outcome="delivered")
                return None
            except AnabranchError as error:
                reason = str(error)
            if delay is not None:
                self._telemetry.count(GATEWAY_DELIVERIES, outcome="retried")
                await asyncio.sleep(delay)
        return reason

    async def _send(self, delivery: Delivery) -> None:
        headers = headers_of(delivery, self._client.links.clock.now())
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._post, delivery.subscription.target, delivery.body, headers)

    async def _bury(self, delivery: Delivery, reason: str, record: Incoming) -> None:
        letter = _letter(self._client.names.dead_letters, delivery, reason, record)
        while True:
            try:
                await self._client.log.publish([letter])
                self._telemetry.count(GATEWAY_DELIVERIES, outcome="dead_letter")
                return
            except ServerUnavailable as error:
                _log.warning("a dead letter waits: %s", error)
                await asyncio.sleep(AWAY_SECONDS)

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
        last = self._records[record.partition, following - 1]
        if self._inbox is not None:
            self._inbox.done([last])
        passed = [key for key in self._records if key[0] == record.partition and key[1] < following]
        for key in passed:
            del self._records[key]


def _letter(topic: str, delivery: Delivery, reason: str, record: Incoming) -> Outgoing:
    """The event that could not be delivered, with why."""
    text = f"{delivery.subscription.target}: {reason}"
    headers = {
        letters.CODE: letters.WEBHOOK_FAILED.encode(),
        letters.REASON: text.encode("utf-8", "replace")[:8_192],
        letters.ORIGIN: f"{record.topic}/{record.partition}/{record.offset}".encode(),
        letters.SIGNATURE: letters.signature(
            letters.WEBHOOK_FAILED, reason, subject=delivery.subscription.id
        ).encode(),
        letters.LETTER_ID: delivery.id.encode(),
    }
    return Outgoing(topic, delivery.run_id, delivery.body, headers=headers)
