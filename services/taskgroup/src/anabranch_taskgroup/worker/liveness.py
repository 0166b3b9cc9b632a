"""Shows that a worker lives: a key in the store that expires after the lease unless it is written again, and
beside it the worker's card in the list of workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.core.names import Names
from anabranch.ports import Clock, StateStore, Write

log = logging.getLogger(__name__)

LIST_TTL = 86_400.0
"""Seconds that the list of workers is kept after the last heartbeat of any of them."""
LISTED = 10_000
"""Workers in the list at most, those of the last heartbeats."""
BEATS_PER_LEASE = 3
"""How often a worker renews its liveness key within a lease. One failed write does not make the key lapse."""


class Liveness:
    """The liveness key of one worker, and its place in the list of workers.

    Args:
        card: makes the worker's card.
        lease: seconds after the last write until owners count the worker as dead.
        catch_up: awaited in this order after each write: what the worker has to read from the store or write to it
            because a message may have been lost, or the store may be a new one.
    """

    def __init__(
        self,
        store: StateStore,
        names: Names,
        clock: Clock,
        card: Callable[[], bytes],
        *,
        incarnation: str,
        lease: float,
        catch_up: Sequence[Callable[[], Awaitable[None]]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._make_card = card
        self._card = b""
        self._key = names.worker(incarnation)
        self._card_key = names.worker_card(incarnation)
        self._list = names.worker_list
        self._incarnation = incarnation
        self._lease = lease
        self._catch_up = catch_up

    async def show(self) -> None:
        """Write the key and the card.

        Raises:
            ServerUnavailable, StoreRefused: the store does not answer.
        """
        self._card = self._make_card()
        # Calls of one turn of the loop share a round trip. The list is written each time, because the store may
        # have restarted empty.
        await asyncio.gather(
            self._store.put([Write(self._key, b"1", self._lease), self._card_write()]),
            self._store.index_add(self._list, {self._incarnation: self._clock.now()}, keep=LISTED, ttl=LIST_TTL),
        )

    def _card_write(self) -> Write:
        return Write(self._card_key, self._card, self._lease)

    async def show_card_of_blocked_loop(self, store: StateStore) -> None:
        """Write the last card again, in the thread of the heartbeat, while an agent keeps the event loop.

        Args:
            store: a connection of that thread.

        Raises:
            ServerUnavailable, StoreRefused: the store does not answer.
        """
        await store.put([self._card_write()])

    async def clear(self) -> None:
        """Delete key and card: the worker holds nothing any more, and no owner needs to wait for the lease.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        await self._store.delete([self._key, self._card_key])
        await self._store.index_remove(self._list, [self._incarnation])

    async def run(self) -> None:
        """Write the key and catch up, for ever. While the store is away no owner counts the worker as dead."""
        beat = self._lease / BEATS_PER_LEASE
        while True:
            await asyncio.sleep(beat)
            try:
                await self.show()
                # After the key, so that a slow read of flags or claims does not let the key expire.
                for step in self._catch_up:
                    await step()
            except (ServerUnavailable, StoreRefused) as error:
                log.warning(
                    "taskgroup worker %s: cannot renew its liveness key or read stops and pauses, "
                    "retrying in %g s: %s",
                    self._incarnation,
                    beat,
                    error,
                )
