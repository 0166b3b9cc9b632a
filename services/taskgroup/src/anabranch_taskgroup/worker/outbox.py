"""The queue of a worker's reports."""

from __future__ import annotations

from anabranch.ports import EventLog, Outgoing
from anabranch.runtime.outbound_queue import OutboundQueue

MAX_OUTBOX_BYTES = 64_000_000
"""Unpublished reports above which the worker claims no further chunks."""
REPORT_BATCH = 1_000
"""Maximum reports that are published with one call."""
RETRY_SECONDS = 0.2


def outbox_to(eventlog: EventLog) -> OutboundQueue[Outgoing]:
    """The queue of reports. One loop publishes all of them in order: owners get the pages of a large value before
    the report that names them, and a report before the message that hands its chunk back. They drop what they get
    twice."""
    return OutboundQueue(
        "worker reports",
        eventlog.publish,
        limit=MAX_OUTBOX_BYTES,
        batch=REPORT_BATCH,
        delay=RETRY_SECONDS,
        overflow="keep",
        weigh=lambda record: len(record.value),
    )
