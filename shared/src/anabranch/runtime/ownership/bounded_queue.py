"""Records that wait to be handled, bounded by number and by bytes: a few large ones are as many as thousands.

It keeps order and counts; whoever fills it stops while it is long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from anabranch.ports import Incoming

MAX_BYTES = 500_000
"""Beyond so many bytes a backlog is long, however few records these are."""
NARROW_BYTES = 125_000
"""The same where there are many backlogs, and all of them are full."""
RECORD_BYTES = 400
"""What a record takes in memory beside its value."""
TURN_BYTES = 250_000
"""No more are taken together once they have so many bytes."""


class Backlog:
    """A queue of records. It is long above `most` records, or `most_bytes` in memory, and short again below a
    quarter of either."""

    def __init__(self, most: int, most_bytes: int = MAX_BYTES) -> None:
        self._most = most
        self.most_bytes = most_bytes
        self._records: deque[Incoming] = deque()
        self._bytes = 0

    def extend(self, records: Iterable[Incoming]) -> None:
        """Put records behind those that wait."""
        for record in records:
            self._records.append(record)
            self._bytes += len(record.value) + RECORD_BYTES

    def take(self, count: int) -> list[Incoming]:
        """The next records, at most so many, and not many where they are large; none where none wait."""
        taken: list[Incoming] = []
        size = 0
        while self._records and len(taken) < count and size < TURN_BYTES:
            record = self._records.popleft()
            size += len(record.value)
            taken.append(record)
        self._bytes -= size + RECORD_BYTES * len(taken)
        return taken

    def keep(self, is_wanted: Callable[[Incoming], bool]) -> None:
        """Drop all others."""
        kept = [record for record in self._records if is_wanted(record)]
        self.clear()
        self.extend(kept)

    def clear(self) -> None:
        """Drop all."""
        self._records.clear()
        self._bytes = 0

    @property
    def is_long(self) -> bool:
        """Whether no more should come for now."""
        return len(self._records) > self._most or self._bytes > self.most_bytes

    @property
    def is_short(self) -> bool:
        """Whether more may come again."""
        return len(self._records) * 4 <= self._most and self._bytes * 4 <= self.most_bytes

    def __len__(self) -> int:
        return len(self._records)
