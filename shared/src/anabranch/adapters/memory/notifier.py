"""A client of the channels in memory: `ports.Notifier` over a shared MemoryServer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from anabranch.adapters.memory.server import MemoryServer

Callback = Callable[[bytes | None], None]


class MemoryNotifier:
    """A client of `server`. Messages arrive in a later iteration of the event loop, never inside `publish`."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._callbacks: dict[tuple[str, Callback], Callback] = {}

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """See `ports.Notifier`."""
        self._server.check_reachable()
        for channel, message in messages:
            for callback in list(self._server.channels.get(channel, ())):
                callback(message)

    async def subscribe(self, channel: str, callback: Callback) -> None:
        """See `ports.Notifier`."""
        self._server.check_reachable()
        loop = asyncio.get_running_loop()

        def soon(message: bytes | None) -> None:
            loop.call_soon(self._deliver, channel, callback, message)

        if (channel, callback) not in self._callbacks:
            self._callbacks[channel, callback] = soon
            self._server.channels.setdefault(channel, []).append(soon)

    async def unsubscribe(self, channel: str, callback: Callback) -> None:
        """See `ports.Notifier`."""
        soon = self._callbacks.pop((channel, callback), None)
        if soon is None:
            return
        callbacks = self._server.channels[channel]
        callbacks.remove(soon)
        if not callbacks:
            del self._server.channels[channel]

    async def close(self) -> None:
        """See `ports.Notifier`."""
        for channel, callback in list(self._callbacks):
            await self.unsubscribe(channel, callback)

    def _deliver(self, channel: str, callback: Callback, message: bytes | None) -> None:
        if (channel, callback) in self._callbacks:
            callback(message)
