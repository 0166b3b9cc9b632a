"""Address of a Redis server, and opening connections to it. Only the handshake is sent here."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from anabranch.adapters.redis.faults import translate, unreachable
from anabranch.core.errors import Misconfigured
from anabranch.core.redis_urls import url_problem

Command = tuple[str | int | float | bytes | memoryview, ...]

_READ_BYTES = 65_536
_GOODBYE_SECONDS = 0.5
_FORM = "Write redis://[user:password@]host:port[/db] or rediss://, with / @ # ? percent-encoded in the password"


@dataclass(frozen=True)
class RedisAddress:
    """A server: `url` is redis://, rediss:// or unix://, with user, password and database number."""

    url: str = field(repr=False)
    ca_file: str | None = None
    timeout: float = 10.0

    def __str__(self) -> str:
        """The address without its secrets."""
        parts = urlsplit(self.url)
        if "@" in parts.path + parts.query + parts.fragment:
            return f"{parts.scheme}://***"  # a / or # in the password was not percent-encoded
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    async def connect(self) -> AbstractConnection:
        """Open a connection and authenticate. Raises ServerUnavailable or Misconfigured."""
        connection = self._make()
        try:
            async with asyncio.timeout(self.timeout):
                await cast(Any, connection).connect()
        except TimeoutError as slow:
            await connection.disconnect(nowait=True)
            raise unreachable(str(self), f"no answer within {self.timeout:g} s") from slow
        except (RedisError, OSError) as refused:
            await connection.disconnect(nowait=True)
            raise translate(refused, "connect", str(self)) from refused
        return connection

    def _make(self) -> AbstractConnection:
        if (problem := url_problem(self.url)) is not None:
            raise Misconfigured("ANABRANCH_REDIS_URL", f"{self} {problem}", _FORM)
        options: dict[str, Any] = {
            # No retries and no read timeout by the library: `RedisLink` and `ChannelSubscriptions` always read,
            # watch for a missing reply themselves, and must know when a connection was lost.
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,
            "socket_connect_timeout": self.timeout,
            "socket_read_size": _READ_BYTES,
        }
        if self.ca_file is not None and self.url.startswith("rediss://"):
            options["ssl_ca_certs"] = self.ca_file
        try:
            # Only its parser of URLs is used: each client here has one connection.
            pool = ConnectionPool.from_url(self.url, **options)
            return pool.connection_class(**pool.connection_kwargs)
        except (ValueError, TypeError) as wrong:
            # The library's message may quote a part of the password that it parsed as the port.
            reason = f"{self} is not a Redis URL ({type(wrong).__name__})"
            raise Misconfigured("ANABRANCH_REDIS_URL", reason, _FORM) from None


async def hang_up(connection: AbstractConnection) -> None:
    """Close a connection. Over TLS, wait a moment for the server's closing alert, without which the socket stays
    open."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GOODBYE_SECONDS):
            await connection.disconnect()
