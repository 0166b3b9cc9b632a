"""The connection for subscriptions: channels with several callbacks, keep-alive, and reconnection.

redis-py's asyncio PubSub does not restore subscriptions after a lost connection. This class does, in blocks, and
calls each callback with None, because messages may have been missed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from anabranch.adapters.redis.connection import RedisAddress, hang_up
from anabranch.adapters.redis.faults import unreachable
from anabranch.core.errors import AnabranchError

Callback = Callable[[bytes | None], None]

BLOCK_CHANNELS = 500
KEEP_ALIVE_SECONDS = 10.0
MIN_PAUSE = 0.05
MAX_PAUSE = 2.0

_SUBSCRIBE, _UNSUBSCRIBE = "SUBSCRIBE", "UNSUBSCRIBE"

_log = logging.getLogger("anabranch.redis")


class _Channel:
    """One channel. `missed` is set if the connection was lost while the subscription was active."""

    def __init__(self) -> None:
        self.callbacks: list[Callback] = []
        self.missed = False
        self.active = asyncio.Event()


class ChannelSubscriptions:
    """Callbacks by channel, over one connection."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._channels: dict[str, _Channel] = {}
        self._changes: list[tuple[str, str]] = []
        # Number of unconfirmed SUBSCRIBEs: a channel that was left and entered again is active only after the last
        # one.
        self._unconfirmed: Counter[str] = Counter()
        self._has_changes = asyncio.Event()
        self._has_received = False
        self._task: asyncio.Task[None] | None = None

    async def add(self, channel: str, callback: Callback) -> None:
        """Add a callback; returns when the subscription is active. Raises ServerUnavailable after the timeout."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._stay_connected())
        entry = self._channels.get(channel)
        if entry is None:
            entry = self._channels[channel] = _Channel()
            self._change(_SUBSCRIBE, channel)
        if callback not in entry.callbacks:
            entry.callbacks.append(callback)
        try:
            async with asyncio.timeout(self._address.timeout):
                await entry.active.wait()
        except TimeoutError:
            self.remove(channel, callback)
            raise unreachable(
                str(self._address), f"the subscription was not confirmed within {self._address.timeout:g} s"
            ) from None
        except asyncio.CancelledError:
            self.remove(channel, callback)
            raise

    def remove(self, channel: str, callback: Callback) -> None:
        """Remove a callback; removing the last one ends the subscription. An unknown callback is ignored."""
        entry = self._channels.get(channel)
        if entry is None or callback not in entry.callbacks:
            return
        entry.callbacks.remove(callback)
        if not entry.callbacks:
            del self._channels[channel]
            self._change(_UNSUBSCRIBE, channel)

    async def close(self) -> None:
        """Close the connection; no callback is called afterwards."""
        self._channels.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _change(self, verb: str, channel: str) -> None:
        self._changes.append((verb, channel))
        if verb == _SUBSCRIBE:
            self._unconfirmed[channel] += 1
        self._has_changes.set()

    async def _stay_connected(self) -> None:
        pause = MIN_PAUSE
        while True:
            try:
                connection = await self._address.connect()
                # Only a connection that was established resets the pause: a server that is down is asked less and
                # less often.
                pause = MIN_PAUSE
                await self._serve(connection)
            except (AnabranchError, RedisError, OSError) as lost:
                _log.warning(
                    "the connection for subscriptions at %s is lost; reconnecting: %s", self._address, lost
                )
            except Exception:  # noqa: BLE001 - if this task died, the process would receive no messages
                _log.exception("the connection for subscriptions at %s failed; reconnecting", self._address)
            self._forget_connection()
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE)

    def _forget_connection(self) -> None:
        for entry in self._channels.values():
            # A subscription that was not active yet has missed nothing: its caller reads the key after `add`.
            entry.missed = entry.missed or entry.active.is_set()
            entry.active.clear()

    async def _serve(self, connection: AbstractConnection) -> None:
        """Run one connection until it is lost."""
        self._subscribe_again()
        helpers = [
            asyncio.ensure_future(self._write(connection)),
            asyncio.ensure_future(self._keep_alive(connection)),
        ]
        try:
            while True:
                self._handle_reply(await connection.read_response(disable_decoding=True))
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await hang_up(connection)

    def _subscribe_again(self) -> None:
        """Prepare a new connection: discard queued changes and subscribe to every present channel."""
        self._changes = [(_SUBSCRIBE, channel) for channel in self._channels]
        self._unconfirmed = Counter(iter(self._channels))
        self._has_changes.set()

    async def _write(self, connection: AbstractConnection) -> None:
        """Send changes in order, combining consecutive changes of one kind."""
        while True:
            await self._has_changes.wait()
            self._has_changes.clear()
            changes, self._changes = self._changes, []
            for verb, channels in _blocks(changes):
                await _send(connection, verb, *channels)

    async def _keep_alive(self, connection: AbstractConnection) -> None:
        """Send pings, and drop a connection whose peer does not reply: a peer that vanished closes no socket."""
        self._has_received = True
        while self._has_received:
            self._has_received = False
            await _send(connection, "PING")
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
        # The read in `_serve` then fails, and a new connection is opened.
        await hang_up(connection)

    def _handle_reply(self, reply: Any) -> None:
        self._has_received = True
        if not isinstance(reply, list) or len(reply) != 3:
            return
        kind, name, content = reply
        channel = name.decode() if name is not None else ""
        if kind == b"message" and channel in self._channels:
            self._call(self._channels[channel], content)
        elif kind == b"subscribe":
            self._confirmed(channel)

    def _confirmed(self, channel: str) -> None:
        self._unconfirmed[channel] -= 1
        entry = self._channels.get(channel)
        if self._unconfirmed[channel] > 0 or entry is None:
            return
        del self._unconfirmed[channel]
        entry.active.set()
        if entry.missed:
            entry.missed = False
            self._call(entry, None)

    def _call(self, entry: _Channel, message: bytes | None) -> None:
        # A copy, because a callback may remove itself.
        for callback in list(entry.callbacks):
            try:
                callback(message)
            except Exception:  # noqa: BLE001 - a bug in one callback must not end the other subscriptions
                _log.exception("a callback of a channel failed; its subscription continues")


def _blocks(changes: Iterable[tuple[str, str]]) -> Iterable[tuple[str, list[str]]]:
    for verb, group in itertools.groupby(changes, key=lambda change: change[0]):
        channels = [channel for _, channel in group]
        for start in range(0, len(channels), BLOCK_CHANNELS):
            yield verb, channels[start : start + BLOCK_CHANNELS]


async def _send(connection: AbstractConnection, *command: str) -> None:
    await connection.send_packed_command(connection.pack_command(*command), check_health=False)
