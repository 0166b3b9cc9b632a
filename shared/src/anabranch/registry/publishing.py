"""Publishes rows of the outbox: the requests of executions and the commands that cancel them."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from anabranch.core.errors import RecordTooLarge
from anabranch.core.tasks.kinds import ExecutionStatus
from anabranch.core.tasks.outbox import OutboxRow
from anabranch.core.tasks.outcomes import Outcome
from anabranch.ports import EventLog, Outgoing

_HEADERS = {"content-type": b"application/json"}


async def publish_rows(log: EventLog, topic: str, rows: Sequence[OutboxRow]) -> dict[str, Outcome]:
    """Publish rows. Returns the outcomes, by request id, of executions whose request no topic takes: it would stop
    all others if it were tried again.

    Raises:
        ServerUnavailable: the log does not respond.
    """
    # One key for an execution: its commands stay behind its request.
    records = [
        Outgoing(topic, str(row.document["request_id"]), orjson.dumps(row.document), _HEADERS) for row in rows
    ]
    try:
        await log.publish(records)
    except RecordTooLarge:
        return await _publish_each(log, records)
    return {}


async def _publish_each(log: EventLog, records: Sequence[Outgoing]) -> dict[str, Outcome]:
    refused: dict[str, Outcome] = {}
    for record in records:
        try:
            await log.publish([record])
        except RecordTooLarge as error:
            message = (
                f"the request of the execution has {error.size:,} bytes, the limit is {error.limit:,}: "
                "give the agent a reference to large values, such as a path or an address"
            )
            record_of_error = {"error_type": "RequestTooLarge", "message": message}
            refused[str(record.key)] = Outcome(ExecutionStatus.FAILED, error=record_of_error)
    return refused
