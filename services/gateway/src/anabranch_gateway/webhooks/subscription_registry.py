"""Registry of all subscriptions, replicated to each gateway by a compacted topic: the last record of an id
counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from anabranch.ports import EventLog, Incoming, Outgoing
from anabranch.runtime.until_available import until_available
from anabranch_gateway.webhooks.subscription import Subscription

REOPEN_SECONDS = 1.0

_log = logging.getLogger("anabranch.gateway")


class SubscriptionRegistry:
    """The subscriptions by id. A change takes effect when its record has been read back from the log.

    Args:
        topic: the compacted topic of subscriptions.
    """

    def __init__(self, log: EventLog, topic: str) -> None:
        self._log = log
        self._topic = topic
        self._all: dict[str, Subscription] = {}
        self._delivered: dict[str, Subscription] = {}
        self._changed = asyncio.Event()
        self._is_read = asyncio.Event()

    @property
    def all(self) -> Mapping[str, Subscription]:
        """All subscriptions by id."""
        return self._all

    @property
    def delivered(self) -> Mapping[str, Subscription]:
        """The subscriptions that the gateway delivers, by id."""
        return self._delivered

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        while True:
            await until_available(self._follow, "read the subscriptions", delay=REOPEN_SECONDS)
            await asyncio.sleep(REOPEN_SECONDS)

    async def wait_until_read(self) -> None:
        """Wait until all subscriptions that existed at the start have been read."""
        await self._is_read.wait()

    async def put(self, subscription: Subscription) -> None:
        """Store a subscription; returns once this process has read it back. Raises ServerUnavailable."""
        await self._log.publish([Outgoing(self._topic, subscription.id, subscription.encode())])
        while subscription.id not in self._all:
            self._changed.clear()
            await self._changed.wait()

    async def delete(self, subscription_id: str) -> None:
        """Delete a subscription; returns once this process has read that back. Raises ServerUnavailable.

        The record's value is `null` as JSON: the ports cannot publish tombstones.
        """
        await self._log.publish([Outgoing(self._topic, subscription_id, b"null")])
        while subscription_id in self._all:
            self._changed.clear()
            await self._changed.wait()

    async def _follow(self) -> None:
        async with self._log.read(self._topic, None, "earliest") as reader:
            # Partitions without a record are not waited for: no record of theirs would end the wait.
            ends = {each: end for each, end in (await reader.end_offsets()).items() if end > 0}
            if not ends:
                self._is_read.set()
            async for records in reader:
                for record in records:
                    self._apply(record)
                    # `ends` has the partitions that are not read up to their end as of the start.
                    if record.offset + 1 >= ends.get(record.partition, 0):
                        ends.pop(record.partition, None)
                if not ends:
                    self._is_read.set()
                self._changed.set()

    def _apply(self, record: Incoming) -> None:
        subscription_id = (record.key or b"").decode("utf-8", "replace")
        self._all.pop(subscription_id, None)
        self._delivered.pop(subscription_id, None)
        if record.is_null or record.value in (b"", b"null"):
            return
        try:
            subscription = Subscription.decode(record.value)
        except ValueError as error:
            location = f"{record.topic}/{record.partition}/{record.offset}"
            _log.warning("the gateway cannot decode the subscription at %s and skips it: %s", location, error)
            return
        self._all[subscription.id] = subscription
        if subscription.is_delivered:
            self._delivered[subscription.id] = subscription
