"""When a silent run's owner is to be nudged. A nudge only has the owner look again: it judges, not we.

Silence is measured from when a fact was read here, not from when it was written: after hours away the first
reading must not nudge every run at once. Pure: time is passed in.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

NUDGE_AFTER = 30.0
"""Seconds of silence before the first nudge; the wait doubles with each further one."""

LONGEST_WAIT = 3_600.0
MAX_NUDGES = 12
"""In one silence: with a doubling wait the last comes after half a day or so. Then only a fact begins anew."""
OVERDUE_SECONDS = 30.0
"""A run is nudged so long after its deadline, whatever it said of being silent by right."""
NEVER = float("inf")


@dataclass(slots=True)
class _Watched:
    """`due_at` moves with each fact, in silence; `queued_at` is its one valid entry in the heap."""

    heard_at: float
    wait: float
    due_at: float
    queued_at: float
    overdue_at: float
    nudges: int = 0


@dataclass(frozen=True, slots=True)
class Silence:
    """A run of which nothing was heard for `silent_for` seconds."""

    run_id: str
    silent_for: float


class NudgeSchedule:
    """The open runs of a partition and when each is due. Memory: one entry for each open run."""

    def __init__(self, after: float = NUDGE_AFTER) -> None:
        self._after = after
        self._watched: dict[str, _Watched] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._watched)

    def heard(self, run_id: str, now: float, deadline: float | None = None) -> None:
        """A fact of an open run was read: its silence begins anew."""
        due_at = now + self._after
        overdue_at = NEVER if deadline is None else deadline + OVERDUE_SECONDS
        watched = self._watched.get(run_id)
        if watched is None:
            self._watched[run_id] = _Watched(now, self._after, due_at, due_at, overdue_at)
            heapq.heappush(self._heap, (due_at, run_id))
            return
        watched.overdue_at = overdue_at
        watched.heard_at, watched.wait, watched.due_at, watched.nudges = now, self._after, due_at, 0
        if due_at < watched.queued_at:
            self._queue(run_id, watched)

    def rest(self, run_id: str, now: float, deadline: float | None = None) -> None:
        """An open run may be silent by right: it is not due before something else is heard of it, or its deadline
        is over."""
        self.heard(run_id, now, deadline)
        watched = self._watched[run_id]
        watched.due_at = max(watched.due_at, watched.overdue_at)

    def ended(self, run_id: str) -> None:
        """The run has ended or is not ours any more; an unknown one is ignored."""
        self._watched.pop(run_id, None)

    def due(self, now: float) -> Sequence[Silence]:
        """The runs to nudge now; each is due again after twice the time."""
        silent = []
        while self._heap and self._heap[0][0] <= now:
            queued_at, run_id = heapq.heappop(self._heap)
            watched = self._watched.get(run_id)
            if watched is None or watched.queued_at != queued_at:
                continue
            if watched.due_at <= now:
                silent.append(Silence(run_id, now - watched.heard_at))
                watched.nudges += 1
                watched.wait = min(watched.wait * 2, LONGEST_WAIT)
                watched.due_at = now + watched.wait if watched.nudges < MAX_NUDGES else NEVER
                if now < watched.overdue_at:
                    watched.due_at = min(watched.due_at, watched.overdue_at)
            self._queue(run_id, watched)
        return silent

    def _queue(self, run_id: str, watched: _Watched) -> None:
        watched.queued_at = watched.due_at
        if watched.due_at != NEVER:
            heapq.heappush(self._heap, (watched.due_at, run_id))
