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
from anabranch_gateway.access.auth import Authenticator, Caller, OpenAuthenticator, Role, token_of
from anabranch_gateway.http.problems import Refusal, not_found

CHECK_SECONDS = 5.0
"""Seconds between two checks of the caller. The key file is reloaded at most two seconds later."""
LAST_WORDS_SECONDS = 1.0
"""Seconds to send the end of a stream; after that the connection is aborted."""

T = TypeVar("T")


class Lease:
    """A caller's right to one long response. `project`: of its run, None for a list of many runs."""

    def __init__(
        self,
        guard: Authenticator,
        connection: HTTPConnection,
        caller: Caller,
        role: Role = "viewer",
        project: str | None = None,
    ) -> None:
        self._guard = guard
        self._token = token_of(connection)
        self._role: Role = role
        self._project = project
        self.caller = caller
        """The caller as of the last check: its projects may have changed."""

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Await the work's result; cancels the work as soon as the caller loses access.

        Raises:
            Refusal: 401, 403 or 404, the caller has lost access.
        """
        if isinstance(self._guard, OpenAuthenticator):
            return await work
        working, watching = asyncio.create_task(work), asyncio.create_task(self._watch())
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await watching
            return await working
        finally:
            for task in (working, watching):
                task.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)

    async def _watch(self) -> None:
        """Check the caller repeatedly. Raises Refusal as soon as the caller loses access."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            with suppress(ServerUnavailable):  # the issuer is unavailable: accepted callers keep access meanwhile
                self.caller = await self._guard.caller(self._token)
            if not self.caller.may(self._role):
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
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._lease.during(super().__call__(scope, receive, noted))
        except Refusal:
            if has_begun:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORDS_SECONDS):
                        await send({"type": "http.response.body", "body": b"", "more_body": False})
