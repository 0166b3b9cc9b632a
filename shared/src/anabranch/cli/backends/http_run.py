"""A run followed through a gateway: a resumable stream of its events, and long polling for its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any

from anabranch.cli.backends.http_api import Api, Refused
from anabranch.core.costs import costs_in
from anabranch.core.errors import RequestRefused, ServerUnavailable
from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.sdk.run_events import LAST_TYPES
from anabranch.sdk.run_result import RunResult, no_executions, origin_of

Document = dict[str, Any]

WAIT_SECONDS = 20.0
"""Seconds that one long-polling request waits for the run's end before the next one is sent."""
UNAVAILABLE_SECONDS = 10.0
"""Seconds without a response from the gateway after which the command ends with an error."""
PAUSE_SECONDS = 0.5
PAGE = 10_000
_COMMON = frozenset({"type", "time", "seq", "run_id", "group", "task", "index", "attempt"})


class HttpRun:
    """See the module, and `FollowedRun`."""

    def __init__(self, api: Api, accepted: Mapping[str, Any]) -> None:
        self.run_id = str(accepted["run_id"])
        self.request_id: str | None = accepted.get("request_id")
        self.session_id: str | None = accepted.get("session_id")
        self.warnings = tuple(accepted.get("warnings") or ())
        self._api = api
        self._acknowledged = False
        self._outcome: Document | RequestRefused | None = None

    @property
    def acknowledged(self) -> bool:
        return self._acknowledged

    async def event_batches(self) -> AsyncGenerator[EventBatch, None]:
        async with aclosing(stream_events(self._api, self.run_id)) as events:
            async for event in events:
                self._acknowledged = True
                yield batch_of(event)

    async def ended(self, timeout: float | None = None) -> str:
        async with asyncio.timeout(timeout):
            while self._outcome is None:
                self._outcome = await self._poll_outcome(
                    WAIT_SECONDS if timeout is None else min(timeout, WAIT_SECONDS)
                )
        self._acknowledged = True
        return "rejected" if isinstance(self._outcome, RequestRefused) else str(self._outcome["status"])

    async def result(self) -> RunResult:
        await self.ended()
        assert self._outcome is not None
        if isinstance(self._outcome, RequestRefused):
            return self._rejected(self._outcome)
        return await result_of(self._api, self._outcome, self.warnings)

    async def cancel(self) -> None:
        try:
            await self._api.post("v1", "runs", self.run_id, "cancel")
        except Refused as refused:
            if refused.code != "run_ended":
                raise

    async def _poll_outcome(self, seconds: float) -> Document | RequestRefused | None:
        """How the run ended, or why it was refused; None if it is open. Retries while the gateway is
        unavailable."""
        away_until: float | None = None
        while True:
            try:
                return await outcome(self._api, self.run_id, seconds)
            except RequestRefused as refused:
                return refused
            except ServerUnavailable:
                now = asyncio.get_running_loop().time()
                away_until = away_until or now + UNAVAILABLE_SECONDS
                if now >= away_until:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)

    def _rejected(self, refused: RequestRefused) -> RunResult:
        return RunResult(
            run_id=self.run_id,
            request_id=self.request_id or "",
            session_id=self.session_id or "",
            status="rejected",
            executions=no_executions(),
            warnings=tuple(dict.fromkeys([*self.warnings, *refused.warnings])),
            errors=tuple(error.to_document() for error in refused.errors),
        )


async def outcome(api: Api, run: str, seconds: float) -> Document | None:
    """How a run ended, waiting up to `seconds`; None if it is still open.

    Raises:
        RequestRefused: it was rejected. Refused: there is no such run. ServerUnavailable.
    """
    try:
        found: Document = await api.get("v1", "runs", run, "result", wait=f"{seconds:g}s", seconds=seconds + 10)
    except Refused as refused:
        if refused.code == "run_open":
            return None
        raise
    return found


async def result_of(api: Api, document: Document, warnings: tuple[str, ...] = ()) -> RunResult:
    """Build the result from an outcome's document. Values that it refers to are read page by page."""
    results = dict(document["results"])
    for key in document.get("references") or ():
        results[key] = await _value(api, document["run_id"], key)
    return RunResult(
        run_id=document["run_id"],
        request_id=document["request_id"] or "",
        session_id=document["session_id"] or "",
        status=document["status"],
        results=results,
        failures=document["failures"],
        executions=document["executions"],
        warnings=tuple(dict.fromkeys([*warnings, *document["warnings"]])),
        duration_seconds=document["duration_seconds"],
        retry_of=document.get("retry_of"),
        taken_over=int(document.get("taken_over") or 0),
        skipped=tuple(document.get("skipped") or ()),
        handled_failures=int(document.get("handled_failures") or 0),
        stopped_by=document.get("stopped_by"),
        origin=origin_of(document),
        costs=costs_in(document),
    )


async def _value(api: Api, run_id: str, key: str) -> Any:
    page = await api.get("v1", "runs", run_id, "results", key, limit=PAGE)
    if "items" not in page:
        return page["value"]
    items = list(page["items"])
    while page["next_from"] is not None:
        page = await api.get("v1", "runs", run_id, "results", key, limit=PAGE, **{"from": page["next_from"]})
        items += page["items"]
    return items


async def stream_events(api: Api, run: str) -> AsyncGenerator[Document, None]:
    """Yield a run's past and future events up to the last one. Resumes after a broken connection.

    Raises:
        Refused: there is no such run. ServerUnavailable: the gateway stays unavailable.
    """
    after: str | None = None
    failed_at: float | None = None
    while True:
        try:
            async with aclosing(api.stream("v1", "runs", run, "events", after=after)) as stream:
                async for event in stream:
                    failed_at = None  # the gateway responds again: the time to give up starts over
                    if event.is_comment:
                        # Checked at each comment, which the gateway sends after 15 seconds without an event.
                        if await _has_ended(api, run):
                            return
                        continue
                    after = event.id or after
                    yield event.data
                    if event.data["type"] in LAST_TYPES:
                        return
        except ServerUnavailable:
            now = asyncio.get_running_loop().time()
            failed_at = failed_at or now
            if now - failed_at >= UNAVAILABLE_SECONDS:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


async def _has_ended(api: Api, run: str) -> bool:
    """True if the run has ended. Its last event may never arrive, because it is lost or expired."""
    return await outcome(api, run, 0) is not None


def batch_of(event: Mapping[str, Any]) -> EventBatch:
    """Convert an event of the API for the progress counters. Its increasing number takes the place of the
    cause."""
    entry = EventEntry(
        type=event["type"],
        cause=event["seq"],
        time=datetime.fromisoformat(event["time"]).timestamp(),
        group=event.get("group"),
        task=event.get("task"),
        index=event.get("index"),
        attempt=event.get("attempt"),
        data={name: value for name, value in event.items() if name not in _COMMON},
    )
    return EventBatch(run_id=event["run_id"], session_id="", source="groups", entries=(entry,))
