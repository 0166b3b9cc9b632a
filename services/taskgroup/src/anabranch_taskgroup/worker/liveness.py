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
CARD_SECONDS = 60.0
"""Seconds after which a card is written again that has not changed, and its place in the list."""
CARD_TTL = 3 * CARD_SECONDS
BEATS_PER_LEASE = 3
"""How often a worker renews its liveness key within a lease. One failed write does not make the key lapse."""


class Liveness:
    """The liveness key of one worker, and its place in the list of workers.

    Args:
        card: makes the worker's card.
        store_age: seconds since a change of the store's identity was noticed.
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
        store_age: Callable[[], float],
        incarnation: str,
        lease: float,
        catch_up: Sequence[Callable[[], Awaitable[None]]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._make_card = card
        self._store_age = store_age
        self._card = b""
        self._card_written_at = float("-inf")
        self._shown_at = float("-inf")
        self._key = names.worker(incarnation)
        self._card_key = names.worker_card(incarnation)
        self._list = names.worker_list
        self._incarnation = incarnation
        self._lease = lease
        self._catch_up = catch_up

    async def show(self) -> None:
        """Write the key, and the card if it has changed, is old, or may be lost with the data of the store.

        Raises:
            ServerUnavailable, StoreRefused: the store does not answer.
        """
        beat, card, now = Write(self._key, b"1", self._lease), self._make_card(), self._clock.monotonic()
        if card == self._card and not self._is_card_old():
            await self._store.put([beat])
            self._shown_at = now
            return
        self._card, self._card_written_at = card, float("-inf")
        # Calls of one turn of the loop share a round trip.
        await asyncio.gather(
            self._store.put([beat, self._card_write()]),
            self._store.index_add(self._list, {self._incarnation: self._clock.now()}, keep=LISTED, ttl=LIST_TTL),
        )
        self._card_written_at = self._shown_at = now

    @property
    def may_have_lapsed(self) -> bool:
        """True if the key may be about to expire, or gone: the store was away for longer than two beats."""
        return self._clock.monotonic() - self._shown_at > 2 * self._lease / BEATS_PER_LEASE

    def _is_card_old(self) -> bool:
        """True if the card was written a minute ago, or before the last change of the store was noticed."""
        age = self._clock.monotonic() - self._card_written_at
        return age >= min(CARD_SECONDS, self._store_age())

    def _card_write(self) -> Write:
        # The key alone says whether the worker lives, so a card may outlive it.
        return Write(self._card_key, self._card, CARD_TTL)

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
                if self._is_card_old():  # one of these steps has noticed that the store was replaced
                    await self.show()
            except (ServerUnavailable, StoreRefused) as error:
                log.warning(
                    "taskgroup worker %s: cannot renew its liveness key or read stops and pauses, "
                    "retrying in %g s: %s",
                    self._incarnation,
                    beat,
                    error,
                )
