"""Computes the offset that may be committed while records complete out of order.

`OffsetTracker` finds the offset before which every record is done; `TrailingCommit` delays it until the store can
no longer lose the effects of those records. Pure: offsets and times are passed in, and one instance serves one
partition. Offsets need not be consecutive: compaction and transaction markers leave gaps.
"""

from __future__ import annotations

from collections import deque


class OffsetTracker:
    """Tracks the offsets of one partition that are in progress, and the first one that is not done.

    Invariants: `_started` holds, in rising order, every offset not yet passed; `_finished` is a subset of the
    members of `_started`; the head of `_started` is never finished (it is passed at once); `_next` is one
    above the highest offset passed, and never falls.
    """

    __slots__ = ("_finished", "_last", "_next", "_open", "_started")

    def __init__(self) -> None:
        self._started: deque[int] = deque()
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._last = -1
        self._next: int | None = None

    def started(self, offset: int) -> bool:
        """Mark the record at `offset` as in progress; return False for one at or below an earlier one.

        The log returns offsets in rising order, so such a record is a repetition after a seek or a reset, and its
        state is kept.
        """
        if offset <= self._last:
            return False
        self._last = offset
        self._started.append(offset)
        self._open.add(offset)
        return True

    def finished(self, offset: int) -> bool:
        """Mark `offset` as done; return False for an offset that is not in progress."""
        if offset not in self._open:
            return False
        self._open.remove(offset)
        self._finished.add(offset)
        self._pass_finished()
        return True

    def _pass_finished(self) -> None:
        while self._started and self._started[0] in self._finished:
            offset = self._started.popleft()
            self._finished.remove(offset)
            self._next = offset + 1

    def committable(self) -> int | None:
        """The offset to commit, in Kafka's sense: the next one to read, with all before it done. None: nothing
        yet."""
        return self._next

    @property
    def oldest_open(self) -> int | None:
        """The lowest offset in progress, which holds the commit back."""
        return self._started[0] if self._started else None

    @property
    def in_flight(self) -> int:
        """The number of offsets that are started and not finished."""
        return len(self._open)


class TrailingCommit:
    """Passes a committable offset on only once it is older than the store's loss window.

    A store that syncs to disk every second can lose the last second at a crash. If the offset of a record was
    committed whose effects are lost, no owner would read that record again. An offset marked at `now` may
    therefore be committed from ``now + window`` on, and not at all if the store changes its identity in between.

    Marks less than a sixteenth of the window apart are merged, which bounds their number at any rate of records;
    it can delay an offset by that time, but never makes it early.

    Invariants: `_marks` rises strictly in offset and never falls in time, and holds at most about 17 entries
    a window; `_safe` is below the offsets in `_marks`; `_safe` never falls.
    """

    __slots__ = ("_grain", "_marks", "_newest_began", "_safe", "_window")

    def __init__(self, window: float = 5.0) -> None:
        if window < 0:
            raise ValueError(f"the loss window is a time in seconds, not {window}")
        self._window = window
        self._grain = window / 16
        self._newest_began = 0.0
        self._marks: deque[tuple[int, float]] = deque()
        self._safe: int | None = None

    def mark(self, offset: int, now: float) -> None:
        """Note that the store has acknowledged everything before `offset` at `now` (seconds)."""
        newest_offset, newest_at = self._marks[-1] if self._marks else (self._safe, now)
        if newest_offset is not None and offset <= newest_offset:
            return
        # A clock that steps back must not let a younger mark pass before an older one.
        at = max(now, newest_at)
        # Measured from the first of the merged marks: measured from the last one, a steady stream of records would
        # move one mark forever, and it would never leave the window.
        if self._marks and at - self._newest_began < self._grain:
            self._marks[-1] = (offset, at)
            return
        self._marks.append((offset, at))
        self._newest_began = at

    def committable(self, now: float) -> int | None:
        """Return the highest offset that is older than the window at `now`, or None."""
        while self._marks and now - self._marks[0][1] >= self._window:
            self._safe = self._marks.popleft()[0]
        return self._safe

    def confirm(self, offset: int) -> None:
        """Note that the store has everything before `offset` on disk, so the offset need not wait."""
        while self._marks and self._marks[0][0] <= offset:
            self._safe = self._marks.popleft()[0]

    def reset(self) -> int | None:
        """Drop the marks within the window: the store has changed its identity, and may have lost their effects.

        Returns the offset to read again from, which is safe in any case; None: the committed offset.
        """
        self._marks.clear()
        return self._safe

    @property
    def waiting(self) -> int:
        """The number of marks within the window."""
        return len(self._marks)
