"""Heartbeat from a thread with its own store connection: a process counts as alive while its loop is blocked.

An agent may block the event loop for longer than the time to live of the liveness key. Its worker is alive, and
other workers should not run its members. After `patience` seconds without a turn of the loop the thread stops
renewing the key, and the worker counts as dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable

from anabranch.core.errors import AnabranchError
from anabranch.ports import Clock, StateStore, Write

OpenStore = Callable[[], Awaitable[StateStore]]
"""Opens a store connection that belongs to the running event loop."""

PATIENCE = 120.0
TICK = 1.0

_log = logging.getLogger("anabranch.process")


class Heartbeat:
    """Renews one key in the store while the event loop that started it responds.

    Args:
        ttl: time to live of the key, in seconds.
        every: seconds between two writes of the key.
        also: called in the thread after each write, with the thread's connection. It may raise ServerUnavailable.
        patience: maximum seconds between two turns of the loop.
    """

    def __init__(
        self,
        open_store: OpenStore,
        clock: Clock,
        *,
        ttl: float,
        every: float,
        also: Callable[[StateStore], Awaitable[None]] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._open_store = open_store
        self._clock = clock
        self._ttl = ttl
        self._every = every
        self._also = also
        self._patience = patience
        self._ticked = 0.0
        self._ticker: asyncio.TimerHandle | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, key: str) -> None:
        """Start the thread. Call it on the event loop to monitor."""
        self._tick()
        self._thread = threading.Thread(target=self._work, args=(key,), name="heartbeat", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Stop the thread. The key stays until it is deleted or expires."""
        if self._ticker is not None:
            self._ticker.cancel()
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _tick(self) -> None:
        # Read by the heartbeat thread without a lock: assigning a float is atomic.
        self._ticked = self._clock.monotonic()
        self._ticker = asyncio.get_running_loop().call_later(TICK, self._tick)

    # --- in the thread

    def _work(self, key: str) -> None:
        asyncio.run(self._beat(key))

    async def _beat(self, key: str) -> None:
        store: StateStore | None = None
        # In another thread, so that this loop keeps reading its store connection, which notices a disconnect.
        while not await asyncio.to_thread(self._stopping.wait, self._every):
            if self._clock.monotonic() - self._ticked > self._patience:
                continue
            try:
                store = store or await self._open_store()
                await store.put([Write(key, b"1", self._ttl)])
                if self._also is not None:
                    await self._also(store)
            except AnabranchError as error:
                _log.warning(
                    "heartbeat thread: cannot renew the liveness key, retrying in %g s: %s", self._every, error
                )
        if store is not None:
            with contextlib.suppress(AnabranchError):
                await store.close()
