"""From work that completes out of order to an offset that may be committed.

`OffsetTracker` says up to where everything is done; `TrailingCommit` holds that back until the store can no
longer forget what the records did. Neither reads a clock nor talks to Kafka: offsets and times are passed in,
one instance serves one partition. Must not assume that offsets follow each other: compaction and transaction
markers leave gaps.
"""

from __future__ import annotations

from collections import deque


class OffsetTracker:
    """Which offsets of one partition are under way, and what follows the last one before which all are done.

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
        """Note that the record at `offset` was taken; return False for one at or below an earlier one.

        The log gives offsets in rising order, so such a record is a repeat (after a seek or a reset): what is
        known of it stands.
        """
        if offset <= self._last:
            return False
        self._last = offset
        self._started.append(offset)
        self._open.add(offset)
        return True

    def finished(self, offset: int) -> bool:
        """Note that nothing of `offset` is left to do; return False for an offset that is not under way."""
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
        """Return the offset to read next, as Kafka commits it: all before it is done. None: nothing yet."""
        return self._next

    @property
    def oldest_open(self) -> int | None:
        """The lowest offset under way: what holds the commit back."""
        return self._started[0] if self._started else None

    @property
    def in_flight(self) -> int:
        """How many offsets were started and are not finished."""
        return len(self._open)


class TrailingCommit:
    """Passes a committable offset on only once it is older than the store's loss window.

    A store that syncs every second can come back a second older, with the effect of a record gone whose
    offset was committed: nobody would read it again. So an offset marked at `now` may be committed from
    ``now + window`` on, and not at all if the store changed its identity in between.

    Marks less than a sixteenth of the window apart become one, so that what is kept is bounded whatever the
    rate; an offset may pass later by that much, never earlier.

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
        """Note that the store had acknowledged everything before `offset` at `now` (seconds)."""
        newest_offset, newest_at = self._marks[-1] if self._marks else (self._safe, now)
        if newest_offset is not None and offset <= newest_offset:
            return
        # A clock that steps back must not let a younger mark pass before an older one.
        at = max(now, newest_at)
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
        """Note that the store has confirmed on disk all that was done before `offset`: no need to wait."""
        while self._marks and self._marks[0][0] <= offset:
            self._safe = self._marks.popleft()[0]

    def reset(self) -> int | None:
        """Forget the marks that the window still holds: the store is another one, and may have lost them.

        Returns the offset that is safe all the same: read on from there (None: from the committed offset).
        """
        self._marks.clear()
        return self._safe

    @property
    def waiting(self) -> int:
        """How many marks the window still holds back."""
        return len(self._marks)
