"""Asks for runs and takes the time, through the topics alone: a record on `requests`, the final one on `results`.

One reader over the results topic serves all runs that are waited for. Nothing here validates a request or asks
the store, so what is measured is the system and not the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from anabranch.cli.backends.systems import OpenSystem
from anabranch.cli.bench.shapes import Document
from anabranch.core.names import run_id_for
from anabranch.ports import Clock, Incoming, Outgoing, Reader
from anabranch.sdk.client import ClientPorts

ENDINGS = frozenset({"run.completed", "run.failed", "run.cancelled", "run.timed_out", "run.rejected"})
PUBLISHED = "result.published"
CONTENT = {"content-type": b"application/json"}


class NotMeasured(Exception):
    """A run that was to be measured ended otherwise; `status` is how (`timed_out` where it was not waited for)."""

    def __init__(self, status: str, message: str) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that completed.

    Attributes:
        seconds: from just before its request was published to the arrival of its final record.
        body: the final record.
        published: for each result key the seconds from the same beginning to its `result.published`.
    """

    run_id: str
    request_id: str
    seconds: float
    body: Document
    published: tuple[float, ...]

    @property
    def members(self) -> int:
        """How many members completed."""
        return int(self.body["executions"]["completed"])


@dataclass(slots=True)
class _Waiting:
    ended: asyncio.Future[tuple[float, bytes]]
    published: list[float] = field(default_factory=list)


class Asker:
    """Publishes requests and waits for their final records; made by `asker`.

    `timeout` is of one run, in seconds.
    """

    def __init__(self, place: OpenSystem, clock: Clock, timeout: float) -> None:
        self.place = place
        self.clock = clock
        self.timeout = timeout
        self._waiting: dict[bytes, _Waiting] = {}

    @property
    def links(self) -> ClientPorts:
        return self.place.client.links

    async def ask(self, document: Document) -> Ended:
        """Run a request under a fresh id, whatever id it has.

        Raises:
            NotMeasured: it did not complete, or not within `timeout` seconds.
            ServerUnavailable: the request could not be published.
        """
        request_id = self.links.ids.run_scoped()
        run_id = run_id_for(request_id)
        value = orjson.dumps({**document, "request_id": request_id})
        waiting = _Waiting(asyncio.get_running_loop().create_future())
        keys = (run_id.encode(), request_id.encode())
        self._waiting |= dict.fromkeys(keys, waiting)
        began = self.clock.monotonic()
        try:
            await self.links.log.publish([Outgoing(self.links.names.requests, request_id, value, CONTENT)])
            async with asyncio.timeout(self.timeout):
                arrived, final = await waiting.ended
        except TimeoutError:
            raise NotMeasured("timed_out", f"no end after {self.timeout:g} s: {RUNNING}") from None
        finally:
            for key in keys:
                del self._waiting[key]
        published = tuple(at - began for at in waiting.published)
        return _completed(Ended(run_id, request_id, arrived - began, orjson.loads(final), published))

    async def read(self, reader: Reader) -> None:
        """Hand the results topic's records to whoever waits for them, for ever."""
        async for batch in reader:
            now = self.clock.monotonic()
            for record in batch:
                self._take(record, now)

    def _take(self, record: Incoming, now: float) -> None:
        waiting = self._waiting.get(record.key or b"")
        if waiting is None:
            return
        kind = dict(record.headers).get("ce_type") or b""
        if kind.decode() == PUBLISHED:
            waiting.published.append(now)
        elif kind.decode() in ENDINGS and not waiting.ended.done():
            waiting.ended.set_result((now, record.value))


RUNNING = "are agency and taskgroup running, with this prefix?"


@asynccontextmanager
async def asker(place: OpenSystem, clock: Clock, timeout: float) -> AsyncGenerator[Asker, None]:
    """An asker whose reader is open, for as long as the context lasts.

    Raises:
        ServerUnavailable: the log cannot be reached.
    """
    asking = Asker(place, clock, timeout)
    async with place.client.log.read(place.client.names.results) as reader:
        reading = asyncio.create_task(asking.read(reader), name="bench-results")
        try:
            yield asking
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def _completed(ended: Ended) -> Ended:
    status = str(ended.body.get("status"))
    if status != "completed":
        raise NotMeasured(status, f"a run ended {status.replace('_', ' ')}{_why(ended.body)}")
    return ended


def _why(body: Document) -> str:
    """What the final record says about it first."""
    told: list[Any] = [*(body.get("errors") or ()), *(body.get("failures") or ())]
    return f": {told[0].get('message')}" if told else ""
