"""Ends long answers whose caller may not have them any more: the key was revoked, or lost the role or the project.

A stream, a WebSocket or a submit that waits may last for hours. Its caller is looked up again every few seconds,
also while nothing is sent, or while the other side does not read.
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
from anabranch_gateway.auth import Caller, Guard, OpenGuard, Role, token_of
from anabranch_gateway.problems import Refusal, not_found

CHECK_SECONDS = 5.0
"""Between two looks at the caller. A file of keys is read again after two more seconds at most."""
LAST_WORDS_SECONDS = 1.0
"""For the end of a stream to be sent; after it the connection is cut."""

T = TypeVar("T")


class Lease:
    """A caller's right to one long answer. `project`: of the run that it is about, None for a list of many."""

    def __init__(
        self,
        guard: Guard,
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
        """Who it is by now: the projects may have changed."""

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives; it is cancelled as soon as the caller may not have it.

        Raises:
            Refusal: 401, 403 or 404, the caller may not have it any more.
        """
        if isinstance(self._guard, OpenGuard):
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
        """Raises Refusal as soon as the caller may not have the answer."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            with suppress(ServerUnavailable):  # the issuer is away: callers that were let in stay meanwhile
                self.caller = await self._guard.caller(self._token)
            if not self.caller.may(self._role):
                raise Refusal(403, "forbidden", f"{self.caller.actor} has no longer the role {self._role}")
            if self._project is not None and not self.caller.sees(self._project):
                raise not_found(f"{self.caller.actor} does not see the project {self._project} any more")


class LeasedStream(StreamingResponse):
    """A streamed answer that ends with its lease."""

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
