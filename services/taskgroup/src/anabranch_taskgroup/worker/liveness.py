"""Shows that a worker lives: a key in the store that expires after the lease unless it is written again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.core.names import Names
from anabranch.ports import StateStore, Write

log = logging.getLogger(__name__)

BEATS_PER_LEASE = 3
"""How often a worker renews its liveness key within a lease. One failed write does not make the key lapse."""


class Liveness:
    """The liveness key of one worker.

    Args:
        lease: seconds after the last write until owners count the worker as dead.
        catch_up: awaited in this order after each write: what the worker has to read from the store or write to it
            because a message may have been lost, or the store may be a new one.
    """

    def __init__(
        self,
        store: StateStore,
        names: Names,
        *,
        incarnation: str,
        lease: float,
        catch_up: Sequence[Callable[[], Awaitable[None]]],
    ) -> None:
        self._store = store
        self._key = names.worker(incarnation)
        self._incarnation = incarnation
        self._lease = lease
        self._catch_up = catch_up

    async def show(self) -> None:
        """Write the key.

        Raises:
            ServerUnavailable, StoreRefused: the store does not answer.
        """
        await self._store.put([Write(self._key, b"1", self._lease)])

    async def clear(self) -> None:
        """Delete the key: the worker holds nothing any more, and no owner needs to wait for the lease.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        await self._store.delete([self._key])

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
