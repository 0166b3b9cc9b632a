"""One partition of the log in memory: ordered records, whose first offset rises with retention.

Stores records and wakes watchers. Payloads are not copied.
"""

from __future__ import annotations

from collections.abc import Callable

from anabranch.adapters.encoding import header_pairs, headers_size, key_bytes
from anabranch.core.json_documents import fitted
from anabranch.ports import Beginning, Incoming, Outgoing

_SMALLEST_DROP = 64


class LogPartition:
    """Records with consecutive offsets. `retention_bytes` limits the kept payload; None keeps everything."""

    def __init__(self, topic: str, number: int, retention_bytes: int | None = None) -> None:
        self.topic = topic
        self.number = number
        self._retention_bytes = retention_bytes
        self._records: list[Incoming] = []
        self._first = 0
        self._bytes = 0
        self._watchers: dict[Callable[[], None], None] = {}

    @property
    def first(self) -> int:
        """Offset of the oldest kept record; equal to `end` if the partition is empty."""
        return self._first

    @property
    def beginning(self) -> Beginning:
        """The oldest kept record."""
        return Beginning(self._first, self._records[0].timestamp if self._records else None)

    @property
    def end(self) -> int:
        """Offset of the next record."""
        return self._first + len(self._records)

    @property
    def bytes_kept(self) -> int:
        """Payload and header bytes of the kept records."""
        return self._bytes

    def append(self, record: Outgoing, timestamp: float) -> int:
        """Append a record, wake the watchers, and return its offset."""
        offset = self.end
        headers = header_pairs(record)
        value = fitted(record.value)
        key, is_null = key_bytes(record), record.is_null
        stored = Incoming(self.topic, self.number, offset, key, value, headers, timestamp, is_null)
        self._records.append(stored)
        self._bytes += stored_bytes(stored)
        if self._retention_bytes is not None and self._bytes > self._retention_bytes:
            self._shrink(self._retention_bytes)
        for wake in self._watchers:
            wake()
        return offset

    def read(self, offset: int, count: int) -> list[Incoming]:
        """At most `count` records from `offset` on, or from the oldest kept record if that is later."""
        start = max(offset - self._first, 0)
        return self._records[start : start + count]

    def trim(self, before: int) -> None:
        """Remove the records below an offset."""
        count = min(max(before - self._first, 0), len(self._records))
        self._bytes -= sum(stored_bytes(record) for record in self._records[:count])
        del self._records[:count]
        self._first += count

    def begin_at(self, offset: int) -> None:
        """Start an empty partition at an offset. Raises ValueError if it has records."""
        if self._records:
            raise ValueError(f"{self.topic}/{self.number} has records up to offset {self.end}")
        self._first = offset

    def watch(self, wake: Callable[[], None]) -> None:
        """Call `wake` after each append, until `unwatch`. `wake` must return at once."""
        self._watchers[wake] = None

    def unwatch(self, wake: Callable[[], None]) -> None:
        """Stop calling `wake`; an unknown callback is ignored."""
        self._watchers.pop(wake, None)

    def _shrink(self, limit: int) -> None:
        """Drop the oldest records in blocks, because removing the first item of a list moves all others."""
        excess = self._bytes - limit
        count = 0
        # The newest record stays even if it alone exceeds the limit.
        while excess > 0 and count < len(self._records) - 1:
            excess -= stored_bytes(self._records[count])
            count += 1
        self.trim(self._first + max(count, min(_SMALLEST_DROP, len(self._records) // 2)))


def stored_bytes(record: Incoming) -> int:
    """Bytes of a record's key, value and headers, which count for retention."""
    return len(record.value) + len(record.key or b"") + headers_size(record.headers)
