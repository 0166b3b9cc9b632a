"""Performs the effects of one turn on the log, the store and the channels, in their two stages.

The first stage makes outcomes durable, the second publishes them once the first is acknowledged. Errors are
raised: the owner retries a stage until it succeeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from anabranch.ports import Fence, HistoryEntry, Outgoing, Write
from anabranch.runtime.ownership.effects import AppendHistory, Effect, Notify, PublishAfter, StorePut
from anabranch.runtime.ownership.replay import by_scope
from anabranch.runtime.process.resources import Resources

FENCE_SECONDS = 172_800.0


class EffectWriter:
    """The effects of one owner.

    Args:
        fence_key: returns the store's key of the fence of a scope of writes.
    """

    def __init__(self, resources: Resources, fence_key: Callable[[str], str]) -> None:
        self._log = resources.log
        self._store = resources.store
        self._notifier = resources.notifier
        self._fence_key = fence_key
        # A broker serves the requests of one connection in order: records that a run waits for go first, events
        # last.
        self._order = {resources.names.results: 1, resources.names.events: 2}

    async def make_durable(self, effects: Sequence[Effect], records: Sequence[Outgoing], epoch: int) -> None:
        """Write to the store, fenced by `epoch`, and publish `records` beside that.

        Raises:
            Fenced: a later owner has written.
            ServerUnavailable, StoreRefused: a server is away; some of it may be done.
        """
        writes = [effect for effect in effects if isinstance(effect, StorePut | AppendHistory)]
        pending = [self._put(scope, part, epoch) for scope, part in by_scope(writes)]
        if records:
            await asyncio.gather(self._log.publish(records), *pending)
        elif pending:
            await asyncio.gather(*pending)

    async def _put(self, scope: str | None, writes: Sequence[Write | HistoryEntry], epoch: int) -> None:
        fence = None if scope is None else Fence(self._fence_key(scope), epoch, FENCE_SECONDS)
        await self._store.put(writes, fence)

    async def publish(self, effects: Sequence[Effect]) -> None:
        """Publish the messages of the second stage. Raises ServerUnavailable; some may be published then."""
        records = [effect.outgoing for effect in effects if isinstance(effect, PublishAfter)]
        records.sort(key=lambda outgoing: self._order.get(outgoing.topic, 0))
        notifications = [(effect.channel, effect.message) for effect in effects if isinstance(effect, Notify)]
        if notifications and records:
            await asyncio.gather(self._log.publish(records), self._notifier.publish(notifications))
        elif records:
            await self._log.publish(records)
        elif notifications:
            await self._notifier.publish(notifications)
