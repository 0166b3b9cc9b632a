"""Schedules nudges of silent runs. Pure: time is passed in.

A nudge asks the owner of a run to check it; whether anything is wrong is the owner's decision. Silence is
measured from when an event was read here, not from when it was written: after hours of downtime the first
reading must not nudge every run at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anabranch.core.due import DueQueue

NUDGE_AFTER = 30.0
"""Seconds of silence before the first nudge; the wait doubles with each further one."""

MAX_WAIT = 3_600.0
MAX_NUDGES = 12
"""Maximum nudges in one silence. With a doubling wait the last one is due after about half a day."""
OVERDUE_SECONDS = 30.0
"""Seconds after its deadline at which a run is nudged, even if its owner reported that it is idle."""
NEVER = float("inf")


@dataclass(slots=True)
class _Watched:
    """An open run. `observed_at`: when its last event was read; `overdue_at`: when it is nudged although idle."""

    observed_at: float
    wait: float
    due_at: float
    overdue_at: float
    nudges: int = 0


@dataclass(frozen=True, slots=True)
class Silence:
    """A run without an event for `silent_for` seconds."""

    run_id: str
    silent_for: float


class NudgeSchedule:
    """The open runs of a partition, and when each is due for a nudge.

    Args:
        after: seconds of silence before the first nudge.
    """

    def __init__(self, after: float = NUDGE_AFTER) -> None:
        self._after = after
        self._watched: dict[str, _Watched] = {}
        self._queue: DueQueue[str] = DueQueue()

    def __len__(self) -> int:
        return len(self._watched)

    def observe(self, run_id: str, now: float, deadline: float | None = None) -> None:
        """An event of an open run was read: its silence starts again."""
        due_at = now + self._after
        overdue_at = NEVER if deadline is None else deadline + OVERDUE_SECONDS
        watched = self._watched.get(run_id)
        if watched is None:
            self._watched[run_id] = _Watched(now, self._after, due_at, overdue_at)
            self._queue.schedule(run_id, due_at)
            return
        watched.overdue_at = overdue_at
        watched.observed_at, watched.wait, watched.due_at, watched.nudges = now, self._after, due_at, 0
        # Every event moves the due time later, but the queue keeps the earlier one: a run that comes up too early
        # is scheduled again. So a busy run costs one queue operation in half a minute, not one an event.
        queued_at = self._queue.due_at(run_id)
        if queued_at is None or due_at < queued_at:
            self._queue.schedule(run_id, due_at)

    def observe_idle(self, run_id: str, now: float, deadline: float | None = None) -> None:
        """An event of an open run was read after which silence is expected: it is due only after its deadline."""
        self.observe(run_id, now, deadline)
        watched = self._watched[run_id]
        watched.due_at = max(watched.due_at, watched.overdue_at)

    def remove(self, run_id: str) -> None:
        """Stop watching a run; an unknown one is ignored."""
        self._watched.pop(run_id, None)
        self._queue.cancel(run_id)

    def due(self, now: float) -> Sequence[Silence]:
        """The runs to nudge now; each is due again after twice its last wait."""
        silent = []
        for run_id in self._queue.pop_due(now):
            watched = self._watched[run_id]
            if watched.due_at <= now:
                silent.append(Silence(run_id, now - watched.observed_at))
                watched.nudges += 1
                watched.wait = min(watched.wait * 2, MAX_WAIT)
                watched.due_at = now + watched.wait if watched.nudges < MAX_NUDGES else NEVER
                # The doubled wait must not skip the deadline: an overdue run is nudged even if it is silent by
                # design.
                if now < watched.overdue_at:
                    watched.due_at = min(watched.due_at, watched.overdue_at)
            if watched.due_at != NEVER:
                self._queue.schedule(run_id, watched.due_at)
        return silent
