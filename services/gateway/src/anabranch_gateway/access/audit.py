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
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import Request

from anabranch.core.wire.cloudevents import rfc3339
from anabranch.ports import Clock, EventLog, Incoming, Outgoing
from anabranch.runtime.outbound_queue import OutboundQueue
from anabranch.runtime.reading.log_range import records_between
from anabranch_gateway.access.callers import Caller
from anabranch_gateway.access.refusal_limits import RefusalLimits
from anabranch_gateway.http.problems import Refusal

MAX_QUEUED = 20_000
BATCH = 500
RETRY_SECONDS = 1.0
MAX_SCANNED = 5_000
SUMMARY_SECONDS = 60.0
"""Seconds between the first omitted refused call and its summary record."""
SUMMARY_ACTION = "refused_calls"
"""The action in a summary record."""
UNKNOWN_CALLER = Caller("unknown", "viewer", frozenset())

_log = logging.getLogger("anabranch.gateway")


class AuditLog:
    """Writes audit records to the topic and reads them back in pages.

    Args:
        topic: the audit topic.
    """

    def __init__(self, log: EventLog, topic: str, clock: Clock) -> None:
        self._log = log
        self._topic = topic
        self._clock = clock
        self._queue: OutboundQueue[Outgoing] = OutboundQueue(
            "audit records",
            log.publish,
            limit=MAX_QUEUED,
            batch=BATCH,
            delay=RETRY_SECONDS,
            overflow="drop newest",
        )
        self._limits = RefusalLimits()
        self._summary_due: asyncio.TimerHandle | None = None

    def record(
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
        """Queue the record of a call, or only count it if too many refused calls are recorded.

        Args:
            action: what the caller did, such as `submit`.
            outcome: `done` or `refused`.
            detail: further information; for a refused call its error code.
        """
        remote = request.client.host if request.client else None
        if outcome == "refused" and not self._limits.admit(remote or "unknown", self._clock.monotonic()):
            self._schedule_summary()
            return
        self._enqueue(
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

    def _enqueue(self, document: dict[str, Any]) -> None:
        self._queue.put(Outgoing(self._topic, document["project"] or "", orjson.dumps(document)))

    def _schedule_summary(self) -> None:
        if self._summary_due is None:
            self._summary_due = asyncio.get_running_loop().call_later(SUMMARY_SECONDS, self._write_summary)

    def _write_summary(self) -> None:
        """Write one summary record for the refused calls without their own record."""
        if self._summary_due is not None:
            self._summary_due.cancel()
            self._summary_due = None
        if self._limits.has_omitted:
            summary = dict.fromkeys(("project", "run_id", "request_id", "remote"))
            self._enqueue(
                {
                    "time": rfc3339(self._clock.now()),
                    "actor": UNKNOWN_CALLER.actor,
                    "role": UNKNOWN_CALLER.role,
                    "action": SUMMARY_ACTION,
                    "outcome": "refused",
                    "detail": self._limits.summary(),
                    **summary,
                }
            )

    async def run(self) -> None:
        """Publish queued records until cancelled."""
        await self._queue.run()

    async def close(self) -> None:
        """Publish queued records and the summary of omitted calls. Raises ServerUnavailable."""
        self._write_summary()
        await self._queue.flush()

    async def page(
        self, caller: Caller, limit: int, before: Mapping[int, int]
    ) -> tuple[list[Any], dict[int, int]]:
        """The latest records before these offsets that a caller may see, the latest first.

        Args:
            before: next offset by partition; a partition without an entry is read from its end.

        Returns:
            The records, and the offsets for the next page; empty if there are no earlier records.

        Raises:
            ServerUnavailable: the log cannot be read.
        """
        positions = await self._log.group_standing(f"{self._topic}-reader", self._topic)
        # A cursor may be beyond the end of a topic that was deleted and created again.
        ends = {each: min(before.get(each, standing.end), standing.end) for each, standing in positions.items()}
        firsts = {each: standing.first for each, standing in positions.items()}
        found: list[Any] = []
        scanned = 0
        while (
            len(found) < limit and scanned < MAX_SCANNED and any(end > firsts[each] for each, end in ends.items())
        ):
            starts = {each: max(firsts[each], end - limit) for each, end in ends.items()}
            # Partitions are merged by time. Each is read a page back from its end; a record that is older than the
            # start of any partition's page may have a later one before it that is not read yet.
            records = [
                (record.timestamp, each, record.offset, _document(record))
                for each, start in starts.items()
                for record in await self._records(each, start, ends[each])
            ]
            scanned += len(records)
            records.sort(key=lambda each: each[:3], reverse=True)
            page_starts = (stamp for stamp, each, offset, _ in records if offset == starts[each] > firsts[each])
            complete_from = max(page_starts, default=0.0)
            for stamp, each, offset, document in records:
                if stamp < complete_from or len(found) == limit:
                    break
                ends[each] = min(offset, ends[each])
                if document is not None and _is_visible(caller, document):
                    found.append(document)
        return found, {} if all(ends[each] <= firsts[each] for each in ends) else ends

    async def _records(self, partition: int, start: int, end: int) -> list[Any]:
        async with aclosing(records_between(self._log, self._topic, partition, start, end)) as records:
            return [record async for record in records]


def _is_visible(caller: Caller, document: Mapping[str, Any]) -> bool:
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
    location = f"{record.topic}/{record.partition}/{record.offset}"
    _log.warning("the gateway skips the record at %s in /v1/audit, it is not an audit record", location)
    return None


def make_cursor(ends: Mapping[int, int]) -> str:
    """Encodes the offsets by partition as an opaque cursor."""
    return base64.urlsafe_b64encode(orjson.dumps(sorted(ends.items()))).decode().rstrip("=")


def parse_cursor(text: str | None) -> dict[int, int]:
    """The offsets by partition of a cursor; empty for None. Raises Refusal 422 if the cursor is invalid."""
    if text is None:
        return {}
    try:
        pairs = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return {int(partition): max(int(offset), 0) for partition, offset in pairs}
    except (ValueError, TypeError, binascii.Error) as error:
        detail = f"{text[:80]!r} is not a cursor: use next_cursor of the previous page"
        raise Refusal(422, "bad_position", detail) from error
