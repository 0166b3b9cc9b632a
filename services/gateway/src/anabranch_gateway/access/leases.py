"""Ends long responses whose caller has lost access: the key was revoked, or lost the role or the project.

A stream, a WebSocket or a waiting submit may last for hours. The gateway checks its caller again every few
seconds, even if it sends nothing or the client does not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from anabranch.core.errors import ServerUnavailable
from anabranch_gateway.access.callers import Authenticator, Caller, OpenAuthenticator, Role, token_of
from anabranch_gateway.http.problems import Refusal, not_found

CHECK_SECONDS = 5.0
"""Seconds between two checks of the caller. The key file is reloaded at most two seconds later."""
CLOSE_SECONDS = 1.0
"""Seconds to send the end of a stream before the connection is aborted."""

T = TypeVar("T")


class Lease:
    """A caller's permission for one long response, which is checked again every few seconds.

    Args:
        role: the role that the response requires.
        project: the project of its run; None for a response about many runs.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        connection: HTTPConnection,
        caller: Caller,
        role: Role = "viewer",
        project: str | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._token = token_of(connection)
        self._role: Role = role
        self._project = project
        self.caller = caller
        """The caller as of the last check: its projects may have changed."""

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits the result of `work`; cancels the work as soon as the caller loses access.

        Raises:
            Refusal: 401, 403 or 404, the caller has lost access.
        """
        if isinstance(self._authenticator, OpenAuthenticator):
            return await work  # an open gateway has no access to revoke
        # The check runs beside the work and not between its steps: a stream may be blocked by a client that does
        # not read.
        working, checking = asyncio.create_task(work), asyncio.create_task(self._check_repeatedly())
        try:
            await asyncio.wait({working, checking}, return_when=asyncio.FIRST_COMPLETED)
            # The check never returns: it ends by raising the refusal.
            if not working.done():
                await checking
            return await working
        finally:
            for task in (working, checking):
                task.cancel()
            await asyncio.gather(working, checking, return_exceptions=True)

    async def _check_repeatedly(self) -> None:
        """Check the caller repeatedly. Raises Refusal as soon as the caller loses access."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            with suppress(ServerUnavailable):  # while the issuer is unavailable accepted callers keep access
                self.caller = await self._authenticator.caller(self._token)
            if not self.caller.has_role(self._role):
                raise Refusal(403, "forbidden", f"{self.caller.actor} no longer has the role {self._role}")
            if self._project is not None and not self.caller.sees(self._project):
                raise not_found(f"{self.caller.actor} can no longer see the project {self._project}")


class LeasedStream(StreamingResponse):
    """A streamed response that ends with its lease."""

    def __init__(self, content: AsyncGenerator[bytes, None], lease: Lease, **described: Any) -> None:
        super().__init__(content, **described)
        self._lease = lease

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        has_started = False

        async def mark_started_and_send(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._lease.during(super().__call__(scope, receive, mark_started_and_send))
        except Refusal:
            if has_started:
                # Ends the chunked response properly: for the client the stream then ends, instead of breaking
                # off.
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await send({"type": "http.response.body", "body": b"", "more_body": False})
