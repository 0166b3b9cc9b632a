"""Follows the log of a container, over broken connections, until it has been read to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from anabranch_taskgroup.worker.executors.programs.kubernetes.api import Api
from anabranch_taskgroup.worker.executors.programs.kubernetes.api_errors import NOT_FOUND, ApiError, ApiUnreachable
from anabranch_taskgroup.worker.executors.programs.kubernetes.log_lines import LineSplitter, LogCursor

RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 10.0


class LogFollower:
    """Reads the log of one container and passes on each line once.

    Attributes:
        failure: why the log could not be read at the last try; None after one that worked.
        is_complete: True once everything has been read that the container wrote.
    """

    def __init__(
        self,
        api: Api,
        address: tuple[str, str, str],
        on_line: Callable[[str], None],
        limit: int,
    ) -> None:
        """Prepare to read.

        Args:
            address: namespace, pod and container.
            limit: bytes after which a line is cut.
        """
        self._api = api
        self._address = address
        self._on_line = on_line
        self._limit = limit
        self._cursor = LogCursor()
        self._ended = asyncio.Event()
        self.failure: ApiError | ApiUnreachable | None = None
        self.is_complete = False

    def container_ended(self) -> None:
        """Say that the container has ended: the log is complete at the end of a read that begins after this."""
        self._ended.set()

    async def run(self) -> None:
        """Read until the log is complete, or no longer exists."""
        delay = RETRY_SECONDS
        while True:
            is_last = self._ended.is_set()
            try:
                await self._read(is_last)
                self.failure, delay = None, RETRY_SECONDS
                if is_last:
                    self.is_complete = True
                    return
            except (ApiError, ApiUnreachable) as error:
                self.failure = error
                if isinstance(error, ApiError) and error.status == NOT_FOUND:
                    return
                await asyncio.sleep(delay)
                delay = min(2 * delay, MAX_RETRY_SECONDS)
                continue
            # The stream of a container that still runs may end, as with the API server that passes it on.
            try:
                async with asyncio.timeout(delay):
                    await self._ended.wait()
            except TimeoutError:
                pass

    async def _read(self, is_last: bool) -> None:
        self._cursor.reconnected()
        splitter = LineSplitter(self._limit)
        async with self._api.log(*self._address, since=self._cursor.since) as chunks:
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    self._pass_on(line)
        if is_last:
            for line in splitter.finish():
                self._pass_on(line)

    def _pass_on(self, raw: bytes) -> None:
        if (text := self._cursor.line(raw)) is not None:
            self._on_line(text)
