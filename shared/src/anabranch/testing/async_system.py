"""A complete system on the running event loop, for async tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from anabranch.core.names import session_key
from anabranch.core.request.models import Request
from anabranch.embedded import Embedded
from anabranch.ports import EventLog, Incoming, Write
from anabranch.runtime.reading.values import public_value
from anabranch.sdk.run import Run
from anabranch.sdk.run_result import RunResult

AnyRequest = Request | Mapping[str, Any] | str | Path
PUBLISHED_TTL = 86_400.0
"""Time to live of external values, in seconds."""


class AsyncSystem:
    """A system on the running loop.

    Attributes:
        client: an open `Client`.
        embedded: the parts of the system: log, store, notifier, names, services.
    """

    def __init__(self, running: Embedded) -> None:
        self.embedded = running
        self.client = running.client

    async def run(self, request: AnyRequest, *, timeout: float | None = None, check: bool = False) -> RunResult:
        """Submit a request and wait for its end. See `Run.result` for `timeout` (seconds) and `check`.

        Raises:
            RequestRefused: the request is invalid, with every error; nothing was published.
            TimeoutError: the run has not ended within `timeout`.
        """
        run = await self.submit(request)
        return await run.result(timeout, check=check)

    async def submit(self, request: AnyRequest) -> Run:
        """Submit a request. Raises RequestRefused if it is invalid."""
        return await self.client.submit(request)

    async def publish(self, session_id: str, key: str, value: Any) -> None:
        """Provide an external value as another system does: SET it in the store, then PUBLISH on its channel."""
        parts = self.embedded
        name = session_key(session_id, key)
        data = orjson.dumps(value)
        # Stored before it is announced: a reader that gets the message must find the value.
        await parts.store.put([Write(name, data, PUBLISHED_TTL)])
        await parts.notifier.publish([(name, data)])

    async def value(self, session_id: str, key: str) -> Any:
        """The value of a session's key, with a reference resolved; None if there is none."""
        parts = self.embedded
        return await public_value(parts.store, parts.names, session_id, key)

    async def records(self, topic: str) -> list[Incoming]:
        """All records on a topic, partition by partition. `topic` is without its prefix, such as `groups`."""
        log = self.embedded.log
        name = f"{self.embedded.names.prefix}{topic}"
        found: list[Incoming] = []
        for partition in range(await log.partition_count(name)):
            found += await _records_of(log, name, partition)
        return found


async def _records_of(log: EventLog, topic: str, partition: int) -> list[Incoming]:
    found: list[Incoming] = []
    # A reader at the end only to learn the end offset: a reader of an empty partition would wait for ever.
    async with log.read(topic, [partition], "latest") as reader:
        end = (await reader.end_offsets())[partition]
    if end == 0:
        return found
    async with log.read(topic, [partition], "earliest") as reader:
        async for batch in reader:
            found += batch
            if found[-1].offset >= end - 1:
                break
    return found
