"""One pipelined connection for every command of a client; commands of one loop iteration share a write.

Requests are written without waiting for earlier replies, which arrive in order. When a connection breaks, all its
pending calls fail, because it is unknown which ones were executed; the next call opens a new connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, ResponseError

from anabranch.adapters.redis.connection import Command, RedisAddress, hang_up
from anabranch.adapters.redis.faults import translate, unreachable
from anabranch.adapters.redis.scripts import by_text
from anabranch.core.errors import AnabranchError

_log = logging.getLogger("anabranch.redis")
_pack = cast(Callable[[Command], bytes], pack_command)


class _Call:
    """The commands of one call, and their replies so far."""

    __slots__ = ("awaited", "done", "packed", "replies")

    def __init__(self, commands: Sequence[Command]) -> None:
        # Encoded here, so that a command that cannot be encoded fails only its own caller.
        self.packed = list(map(_pack, commands))
        self.awaited = len(commands)
        self.replies: list[Any] = []
        self.done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    def take(self, reply: Any) -> bool:
        """Take one reply; returns True after the last one."""
        self.replies.append(reply)
        if len(self.replies) < self.awaited:
            return False
        # The caller may have been cancelled. Its replies are taken all the same, because replies are matched by
        # order.
        if not self.done.done():
            self.done.set_result(self.replies)
        return True

    def fail(self, error: AnabranchError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class RedisLink:
    """Sends commands to one server. `address.timeout`: seconds without a reply after which the connection is
    closed."""

    def __init__(self, address: RedisAddress) -> None:
        self.address = address
        self._outbox: list[_Call] = []
        self._sent: deque[_Call] = deque()
        self._has_calls = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writer = asyncio.ensure_future(self._write())
        self._reply_timer: asyncio.TimerHandle | None = None
        self._has_received = False
        self._closed = False
        self.connections = 0
        """Number of connections so far. What was read over one connection may be wrong on the next, after a
        failover."""

    async def ask(self, operation: str, commands: Sequence[Command]) -> list[Any]:
        """Send commands and return their replies in order.

        Raises ServerUnavailable, or the translation of the first error reply, for `operation`."""
        return self._without_errors(operation, await self.ask_each(commands))

    async def ask_each(self, commands: Sequence[Command]) -> list[Any]:
        """As `ask`, but error replies are returned in place. Raises ServerUnavailable."""
        if not commands:
            return []
        if self._closed:
            raise unreachable(str(self.address), "this client was closed")
        call = _Call(commands)
        self._outbox.append(call)
        self._has_calls.set()
        return await call.done

    async def run(self, operation: str, commands: Sequence[Command]) -> list[Any]:
        """As `ask`. Calls of scripts that the server rejects as unknown are sent again, as text."""
        replies = await self.ask_each(commands)
        unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = await self.ask_each([by_text(commands[index]) for index in unknown])
            for index, reply in zip(unknown, again, strict=True):
                replies[index] = reply
        return self._without_errors(operation, replies)

    def _without_errors(self, operation: str, replies: list[Any]) -> list[Any]:
        for reply in replies:
            if isinstance(reply, Exception):
                raise translate(reply, operation, str(self.address)) from reply
        return replies

    async def close(self) -> None:
        """Wait for pending calls, then close the connection."""
        self._closed = True
        waiting = [call.done for call in (*self._outbox, *self._sent)]
        if waiting:
            await asyncio.wait(waiting, timeout=self.address.timeout)
        self._writer.cancel()
        await self._break(unreachable(str(self.address), "this client was closed"))
        await asyncio.gather(self._writer, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            await self._has_calls.wait()
            self._has_calls.clear()
            calls, self._outbox = self._outbox, []
            try:
                connection = await self._connected()
                # Before the write: the first replies may arrive while the rest is still being written.
                self._sent.extend(calls)
                self._watch_replies()
                packed = [part for call in calls for part in call.packed]
                # The library's health check would read a reply itself, and break the order.
                await connection.send_packed_command(packed, check_health=False)
            except Exception as error:  # noqa: BLE001 - the callers wait for a reply in any case
                failure = translate(error, "sending", str(self.address))
                for call in calls:
                    call.fail(failure)
                await self._break(failure)

    async def _connected(self) -> AbstractConnection:
        if self._connection is None:
            self._connection = await self.address.connect()
            self.connections += 1
            self._reader = asyncio.ensure_future(self._read(self._connection))
        return self._connection

    async def _read(self, connection: AbstractConnection) -> None:
        """Read replies. Also reads when no reply is pending, so that a closed connection is noticed at once."""
        while True:
            try:
                reply = await connection.read_response(disable_decoding=True)
            except ResponseError as error:
                reply = error
            except Exception as error:  # noqa: BLE001 - as above
                if self._connection is connection:
                    await self._break(translate(error, "reading", str(self.address)))
                return
            self._has_received = True
            if not self._sent:
                # An unrequested reply precedes a disconnect, such as "too many clients".
                await self._break(
                    unreachable(str(self.address), f"the server sent {reply!r} and closed the connection")
                )
                return
            if self._sent[0].take(reply):
                self._sent.popleft()

    async def _break(self, failure: AnabranchError) -> None:
        """Drop the connection: calls that were sent fail, and the others use a new connection."""
        # Detached before any await, so that new calls open another connection.
        connection, self._connection = self._connection, None
        reader, self._reader = self._reader, None
        while self._sent:
            self._sent.popleft().fail(failure)
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
        if connection is not None:
            await hang_up(connection)

    def _watch_replies(self) -> None:
        if self._reply_timer is None:
            self._has_received = False
            self._reply_timer = asyncio.get_running_loop().call_later(self.address.timeout, self._check_received)

    def _check_received(self) -> None:
        """Drop the connection if the server sent nothing for the whole timeout while requests were pending."""
        self._reply_timer = None
        if not self._sent:
            return
        if self._has_received:
            self._watch_replies()
        elif self._connection is not None:
            _log.warning(
                "Redis at %s does not respond; closing the connection, the next call opens a new one", self.address
            )
            failure = unreachable(str(self.address), f"no answer within {self.address.timeout:g} s")
            # A reference, because asyncio has only weak ones to its tasks.
            self._breaking = asyncio.ensure_future(self._break(failure))
