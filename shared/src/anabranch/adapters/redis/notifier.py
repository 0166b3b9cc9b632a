"""`ports.Notifier` on Redis, over a connection for commands and one for subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anabranch.adapters.redis.connection import RedisAddress
from anabranch.adapters.redis.link import RedisLink
from anabranch.adapters.redis.subscriptions import ChannelSubscriptions

Callback = Callable[[bytes | None], None]


class RedisNotifier:
    """A client of one server. The first subscription opens the second connection."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._subscriptions = ChannelSubscriptions(link.address)

    @classmethod
    async def connect(cls, url: str, *, ca_file: str | None = None, timeout: float = 10.0) -> RedisNotifier:
        """Reach the server at `url` (redis://, rediss://, unix://). Raises ServerUnavailable, Misconfigured."""
        link = RedisLink(RedisAddress(url, ca_file, timeout))
        try:
            await link.ask("PING", [("PING",)])
        except BaseException:
            await link.close()
            raise
        return cls(link)

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """See `ports.Notifier`. Raises ServerUnavailable, StoreRefused."""
        await self._link.ask("publish", [("PUBLISH", channel, message) for channel, message in messages])

    async def subscribe(self, channel: str, callback: Callback) -> None:
        """See `ports.Notifier`. Raises ServerUnavailable if it is not active in time."""
        await self._subscriptions.add(channel, callback)

    async def unsubscribe(self, channel: str, callback: Callback) -> None:
        """See `ports.Notifier`."""
        self._subscriptions.remove(channel, callback)

    async def close(self) -> None:
        """See `ports.Notifier`."""
        await self._subscriptions.close()
        await self._link.close()
