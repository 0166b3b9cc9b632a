"""Runs requests and measures their durations through the topics: publishes to `requests`, reads `results`.

One reader of the results topic serves all runs. The client neither validates requests nor reads the store, so that
the figures are those of the system and not of the client.
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
from anabranch.sdk.client_ports import ClientPorts

ENDINGS = frozenset({"run.completed", "run.failed", "run.cancelled", "run.timed_out", "run.rejected"})
PUBLISHED = "result.published"
CONTENT = {"content-type": b"application/json"}


class NotMeasured(Exception):
    """A run did not complete. `status` is its final status, or `timed_out` if it did not end in time."""

    def __init__(self, status: str, message: str) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """A completed run.

    Attributes:
        seconds: duration from just before the request is published to the arrival of the final record.
        body: the final record.
        published: for each result key, seconds from the same start to its `result.published`.
    """

    run_id: str
    request_id: str
    seconds: float
    body: Document
    published: tuple[float, ...]

    @property
    def members(self) -> int:
        """Number of completed members."""
        return int(self.body["executions"]["completed"])


@dataclass(slots=True)
class _Waiting:
    ended: asyncio.Future[tuple[float, bytes]]
    published: list[float] = field(default_factory=list)


class BenchClient:
    """Publishes requests and waits for their final records. Opened by `open_bench_client`.

    Args:
        timeout: maximum duration of one run, in seconds.
    """

    def __init__(self, system: OpenSystem, clock: Clock, timeout: float) -> None:
        self.system = system
        self.clock = clock
        self.timeout = timeout
        self._waiting: dict[bytes, _Waiting] = {}

    @property
    def links(self) -> ClientPorts:
        return self.system.client.links

    async def run(self, document: Document) -> MeasuredRun:
        """Run a request under a new request id, which replaces the request's own.

        Raises:
            NotMeasured: the run did not complete, or not within `timeout` seconds.
            ServerUnavailable: the request could not be published.
        """
        request_id = self.links.ids.run_scoped()
        run_id = run_id_for(request_id)
        value = orjson.dumps({**document, "request_id": request_id})
        waiting = _Waiting(asyncio.get_running_loop().create_future())
        keys = (run_id.encode(), request_id.encode())
        # Registered before the publication, so that the final record of a short run is not missed. The record of a
        # rejected request may have the request id as key, all others have the run id.
        self._waiting |= dict.fromkeys(keys, waiting)
        began = self.clock.monotonic()
        try:
            await self.links.log.publish([Outgoing(self.links.names.requests, request_id, value, CONTENT)])
            async with asyncio.timeout(self.timeout):
                arrived, final = await waiting.ended
        except TimeoutError:
            raise NotMeasured("timed_out", f"the run has not ended after {self.timeout:g} s: {RUNNING}") from None
        finally:
            for key in keys:
                del self._waiting[key]
        published = tuple(at - began for at in waiting.published)
        return _completed(MeasuredRun(run_id, request_id, arrived - began, orjson.loads(final), published))

    async def read(self, reader: Reader) -> None:
        """Dispatch the records of the results topic to the runs that wait for them. Does not return."""
        async for batch in reader:
            now = self.clock.monotonic()
            for record in batch:
                self._dispatch(record, now)

    def _dispatch(self, record: Incoming, now: float) -> None:
        waiting = self._waiting.get(record.key or b"")
        if waiting is None:
            return
        kind = dict(record.headers).get("ce_type") or b""
        if kind.decode() == PUBLISHED:
            waiting.published.append(now)
        elif kind.decode() in ENDINGS and not waiting.ended.done():
            waiting.ended.set_result((now, record.value))


RUNNING = "check that `anabranch agency` and `anabranch taskgroup` run with this prefix"


@asynccontextmanager
async def open_bench_client(system: OpenSystem, clock: Clock, timeout: float) -> AsyncGenerator[BenchClient, None]:
    """Open a client; its reader of the results topic is open while the context lasts.

    Raises:
        ServerUnavailable: the log cannot be reached.
    """
    client = BenchClient(system, clock, timeout)
    async with system.client.log.read(system.client.names.results) as reader:
        reading = asyncio.create_task(client.read(reader), name="bench-results")
        try:
            yield client
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def with_members(ended: MeasuredRun, expected: int) -> MeasuredRun:
    """The run, if it has the expected number of completed members.

    Raises:
        NotMeasured: it has another number, so it did other work than what is measured.
    """
    if ended.members != expected:
        raise NotMeasured("failed", f"a run completed with {ended.members:,} of {expected:,} members")
    return ended


def _completed(ended: MeasuredRun) -> MeasuredRun:
    status = str(ended.body.get("status"))
    if status != "completed":
        raise NotMeasured(status, f"a run ended {status.replace('_', ' ')}{_first_message(ended.body)}")
    return ended


def _first_message(body: Document) -> str:
    """Message of the first error or failure in the final record."""
    problems: list[Any] = [*(body.get("errors") or ()), *(body.get("failures") or ())]
    return f": {problems[0].get('message')}" if problems else ""
