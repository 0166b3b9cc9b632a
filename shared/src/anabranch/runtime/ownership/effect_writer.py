"""Performs the effects of one turn on the log, the store and the channels, in their two stages.

The first stage makes outcomes durable, the second publishes them once the first is acknowledged. Errors are
raised: the owner retries a stage until it succeeds.
"""

from __future__ import annotations

from collections.abc import Callable

from anabranch.ports import Fence
from anabranch.runtime.ownership.effects import TurnEffects
from anabranch.runtime.ownership.replay import by_scope
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.side_by_side import side_by_side

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

    async def make_durable(self, turn: TurnEffects, epoch: int) -> None:
        """Write to the store, fenced by `epoch`, and publish the records of the first stage beside that.

        Raises:
            Fenced: a later owner has written.
            ServerUnavailable, StoreRefused: a server is away; some of it may be done.
        """
        if not turn.writes:
            await self._log.publish(turn.first)
            return
        puts = [(writes, self._fence(scope, epoch)) for scope, writes in by_scope(turn.writes)]
        if turn.first:
            await side_by_side(self._log.publish(turn.first), self._store.put_all(puts))
        else:
            await self._store.put_all(puts)

    def _fence(self, scope: str | None, epoch: int) -> Fence | None:
        return None if scope is None else Fence(self._fence_key(scope), epoch, FENCE_SECONDS)

    async def publish_last(self, turn: TurnEffects) -> None:
        """Publish the records that follow the second stage. Raises ServerUnavailable; some may be published."""
        await self._log.publish(turn.last)

    async def publish(self, turn: TurnEffects) -> None:
        """Publish the messages of the second stage. Raises ServerUnavailable; some may be published then."""
        if len(turn.after) > 1:
            turn.after.sort(key=lambda outgoing: self._order.get(outgoing.topic, 0))
        if not turn.notifications:
            await self._log.publish(turn.after)
        elif turn.after:
            await side_by_side(self._log.publish(turn.after), self._notifier.publish(turn.notifications))
        else:
            await self._notifier.publish(turn.notifications)
