"""Queue of delivered records, bounded by their number and by their bytes in memory.

The queue drops nothing. Its owner pauses the log while the queue is long (backpressure), and resumes it once the
queue is short; the two thresholds differ, so that the log is not paused and resumed for each record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from anabranch.ports import Incoming

MAX_BYTES = 500_000
"""Bytes above which a queue is long, regardless of the number of records."""
NARROW_BYTES = 125_000
"""The same for one of many queues that fill at once, as in a replay."""
RECORD_BYTES = 400
"""Memory that a record takes in addition to its value."""
TURN_BYTES = 250_000
"""Bytes after which `take` returns a smaller batch."""


class BoundedQueue:
    """First-in, first-out queue of records.

    Args:
        max_records, max_bytes: it is long above one of these limits, and short at a quarter of both.
    """

    def __init__(self, max_records: int, max_bytes: int = MAX_BYTES) -> None:
        self._max_records = max_records
        self.max_bytes = max_bytes
        self._records: deque[Incoming] = deque()
        self._bytes = 0

    def extend(self, records: Iterable[Incoming]) -> None:
        """Append records."""
        for record in records:
            self._records.append(record)
            self._bytes += len(record.value) + RECORD_BYTES

    def take(self, count: int, max_bytes: int = TURN_BYTES) -> list[Incoming]:
        """Remove and return the next records, at most `count`; fewer if they are large, none if the queue is
        empty."""
        taken: list[Incoming] = []
        size = 0
        # The limit is checked before each record: one that is larger than `max_bytes` is still returned.
        while self._records and len(taken) < count and size < max_bytes:
            record = self._records.popleft()
            size += len(record.value)
            taken.append(record)
        self._bytes -= size + RECORD_BYTES * len(taken)
        return taken

    def retain(self, is_wanted: Callable[[Incoming], bool]) -> None:
        """Drop the records for which `is_wanted` is false."""
        kept = [record for record in self._records if is_wanted(record)]
        self.clear()
        self.extend(kept)

    def clear(self) -> None:
        """Drop all records."""
        self._records.clear()
        self._bytes = 0

    @property
    def is_long(self) -> bool:
        """True if the log should be paused."""
        return len(self._records) > self._max_records or self._bytes > self.max_bytes

    @property
    def is_short(self) -> bool:
        """True if the log may be resumed."""
        return len(self._records) * 4 <= self._max_records and self._bytes * 4 <= self.max_bytes

    def __len__(self) -> int:
        return len(self._records)
