"""Audit log: a record on the topic `audit` for each action of a caller, and for each refused call.

Records are published in the background in batches, so calls do not wait for them; shutdown waits until all are
published. While Kafka is unavailable records are queued up to a limit; the number of dropped records is logged.
Records of refused calls are rate-limited, see `refusal_limits`; a summary record has the number of the omitted
ones.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections import deque
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import Request

from anabranch.core.errors import ServerUnavailable
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.ports import Clock, EventLog, Incoming, Outgoing
from anabranch.runtime.reading.log_range import records_between
from anabranch_gateway.access.auth import Caller
from anabranch_gateway.access.refusal_limits import RefusalLimits
from anabranch_gateway.http.problems import Refusal

MAX_WAITING = 20_000
BATCH = 500
RETRY_SECONDS = 1.0
MAX_LOOKED_AT = 5_000
SUMMARY_SECONDS = 60.0
"""Seconds between the first omitted refused call and its summary record."""
LEFT_OUT = "refused_calls"
"""The action in a summary record."""
NOBODY = Caller("unknown", "viewer", frozenset())

_log = logging.getLogger("anabranch.gateway")


class Audit:
    """Writes the records, and reads them back."""

    def __init__(self, log: EventLog, topic: str, clock: Clock) -> None:
        self._log = log
        self._topic = topic
        self._clock = clock
        self._waiting: deque[Outgoing] = deque()
        self._filled = asyncio.Event()
        self._lost = 0
        self._limits = RefusalLimits(clock.monotonic())
        self._summary_due: asyncio.TimerHandle | None = None

    def note(
        self,
        request: Request,
        caller: Caller,
        action: str,
        *,
        project: str | None = None,
        run_id: str | None = None,
        request_id: str | None = None,
        outcome: str = "done",
        detail: str | None = None,
    ) -> None:
        """Note an act. `outcome`: done or refused; `detail`: what else there is to say, the code of a refusal."""
        remote = request.client.host if request.client else None
        if outcome == "refused" and not self._limits.admit(remote or "unknown", self._clock.monotonic()):
            self._plan_summary()
            return
        self._put(
            {
                "time": rfc3339(self._clock.now()),
                "actor": caller.actor,
                "role": caller.role,
                "project": project,
                "action": action,
                "run_id": run_id,
                "request_id": request_id,
                "outcome": outcome,
                "detail": detail,
                "remote": remote,
            }
        )

    def _put(self, document: dict[str, Any]) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._lost += 1
            return
        self._waiting.append(Outgoing(self._topic, document["project"] or "", orjson.dumps(document)))
        self._filled.set()

    def _plan_summary(self) -> None:
        if self._summary_due is None:
            self._summary_due = asyncio.get_running_loop().call_later(SUMMARY_SECONDS, self._summarise)

    def _summarise(self) -> None:
        """Write one summary record for the refused calls without their own record."""
        if self._summary_due is not None:
            self._summary_due.cancel()
            self._summary_due = None
        if self._limits.has_left_out:
            summary = dict.fromkeys(("project", "run_id", "request_id", "remote"))
            self._put(
                {
                    "time": rfc3339(self._clock.now()),
                    "actor": NOBODY.actor,
                    "role": NOBODY.role,
                    "action": LEFT_OUT,
                    "outcome": "refused",
                    "detail": self._limits.summary(),
                    **summary,
                }
            )

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._filled.wait()
            try:
                await self.flush()
            except ServerUnavailable as error:
                _log.warning("%d audit records wait: %s", len(self._waiting), error)
                await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Publish queued records and the summary of omitted calls. Raises ServerUnavailable."""
        self._summarise()
        await self.flush()

    async def flush(self) -> None:
        """Publish what waits. Raises ServerUnavailable; the rest then stays queued."""
        self._filled.clear()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                await self._log.publish(batch)
            except BaseException:
                self._waiting.extendleft(reversed(batch))
                self._filled.set()
                raise
        if self._lost:
            _log.error("%d acts are not in the audit log: Kafka was away for too long", self._lost)
            self._lost = 0

    async def page(
        self, caller: Caller, limit: int, before: Mapping[int, int]
    ) -> tuple[list[Any], dict[int, int]]:
        """The latest records before these offsets that concern a caller, and the offsets to go on from.

        Raises:
            ServerUnavailable: the log cannot be read.
        """
        standings = await self._log.group_standing(f"{self._topic}-reader", self._topic)
        ends = {each: min(before.get(each, standing.end), standing.end) for each, standing in standings.items()}
        firsts = {each: standing.first for each, standing in standings.items()}
        found: list[Any] = []
        looked_at = 0
        while (
            len(found) < limit
            and looked_at < MAX_LOOKED_AT
            and any(end > firsts[each] for each, end in ends.items())
        ):
            stretch = {each: max(firsts[each], end - limit) for each, end in ends.items()}
            records = [
                (record.timestamp, each, record.offset, _document(record))
                for each, start in stretch.items()
                for record in await self._records(each, start, ends[each])
            ]
            looked_at += len(records)
            records.sort(key=lambda each: each[:3], reverse=True)
            # Only what is later than the end of every stretch is known to be complete.
            starts = (stamp for stamp, each, offset, _ in records if offset == stretch[each] > firsts[each])
            floor = max(starts, default=0.0)
            for stamp, each, offset, document in records:
                if stamp < floor or len(found) == limit:
                    break
                ends[each] = min(offset, ends[each])
                if document is not None and _concerns(caller, document):
                    found.append(document)
        return found, {} if all(ends[each] <= firsts[each] for each in ends) else ends

    async def _records(self, partition: int, start: int, end: int) -> list[Any]:
        async with aclosing(records_between(self._log, self._topic, partition, start, end)) as records:
            return [record async for record in records]


def _concerns(caller: Caller, document: Mapping[str, Any]) -> bool:
    project = document.get("project")
    return caller.projects is None or (isinstance(project, str) and project in caller.projects)


def _document(record: Incoming) -> dict[str, Any] | None:
    """Decode an audit record; None for a record that no gateway wrote, which is skipped."""
    try:
        document = orjson.loads(record.value)
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict):
        return document
    place = f"{record.topic}/{record.partition}/{record.offset}"
    _log.warning("the record at %s is not an audit record, /v1/audit skips it", place)
    return None


def make_cursor(ends: Mapping[int, int]) -> str:
    """Offsets by partition as one opaque word."""
    return base64.urlsafe_b64encode(orjson.dumps(sorted(ends.items()))).decode().rstrip("=")


def parse_cursor(text: str | None) -> dict[int, int]:
    """Raises Refusal 422 where it is none."""
    if text is None:
        return {}
    try:
        pairs = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return {int(partition): max(int(offset), 0) for partition, offset in pairs}
    except (ValueError, TypeError, binascii.Error) as error:
        detail = f"{text[:80]!r} is no cursor: take next_cursor of the page before"
        raise Refusal(422, "bad_position", detail) from error
