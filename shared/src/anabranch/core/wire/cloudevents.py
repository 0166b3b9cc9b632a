"""Record headers of the CloudEvents 1.0 Kafka binding in binary mode."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

SOURCE = "anabranch"
_SOURCE = SOURCE.encode()


EARLIEST, LATEST = -62_135_596_800.0, 253_402_300_799.0
"""The years 1 and 9999, the range of RFC 3339: a record's timestamp, set by its producer, may be outside."""


@lru_cache(maxsize=256)  # the records of one turn have one time
def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC with milliseconds; times outside its range are clamped."""
    seconds = min(max(seconds, EARLIEST), LATEST)
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cloud_event_headers(
    kind: str, event_id: str, at: float, *, subject: str | None = None, traceparent: str | None = None
) -> Mapping[str, bytes]:
    """The `ce_*` headers of a record.

    Args:
        kind: `ce_type`, such as `run.completed`.
        event_id: `ce_id`, stable when the record is repeated.
        at: seconds since the epoch.
        subject: the run id.
        traceparent: W3C trace context, carried through from the producer.
    """
    headers = {
        "ce_specversion": b"1.0",
        "ce_type": kind.encode(),
        "ce_id": event_id.encode(),
        "ce_source": _SOURCE,
        "ce_time": rfc3339(at).encode(),
        "content-type": b"application/json",
    }
    if subject is not None:
        headers["ce_subject"] = subject.encode()
    if traceparent is not None:
        headers["traceparent"] = traceparent.encode()
    return headers
