"""The timers of a run: what is due at which time. Pure; part of the owner's state.

A decision schedules and cancels timers as it changes the state. The partition knows the earliest timer of each
run, and the owner appends a `timer` record to the log once that is due; deciding about the record fires them. So a
new owner that reads the same records has the same timers, and a record that precedes the timer's wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from anabranch.core.due import DueQueue

if TYPE_CHECKING:
    from anabranch_taskgroup.session.state import Run


class TimerKind(IntEnum):
    """What a timer is for. Timers of one step that are due together fire in this order."""

    OVERDUE = 0
    """Of a run: it is still open after its deadline."""
    GROUP_TIMEOUT = 1
    """Of a group: its timeout is over."""
    AGENT_MISSING = 2
    """Of a step: workers have lacked its agent for a while."""
    REOFFER = 3
    """Of a step: a parked chunk or a retry is due."""
    WAIT = 4
    """Of a step that waits: the time of a member has come."""
    TASK_TIMEOUT = 5
    """Of a task of `finally`: its timeout is over."""
    ITERATION = 6
    """Of a loop: its next iteration may start."""
    LOOP_LIMIT = 7
    """Of a loop: it has used up its time."""
    PRIORITY = 8
    """Of the run: it is wanted so soon that its waiting chunks are to be offered at a higher level."""


class Timer(NamedTuple):
    """A timer of a step, of a group (`task` is empty), or of the run (`group` is empty too)."""

    kind: TimerKind
    group: str = ""
    task: str = ""


OVERDUE = Timer(TimerKind.OVERDUE)
PRIORITY = Timer(TimerKind.PRIORITY)
STEP_TIMERS = (
    TimerKind.AGENT_MISSING,
    TimerKind.REOFFER,
    TimerKind.WAIT,
    TimerKind.TASK_TIMEOUT,
    TimerKind.ITERATION,
    TimerKind.LOOP_LIMIT,
)


class Timers(DueQueue[Timer]):
    """The timers of one run; each operation is O(log n)."""

    def bring_forward(self, timer: Timer, at: float) -> None:
        """Schedule the timer at `at` unless it is due earlier, in seconds since the epoch."""
        known = self.due_at(timer)
        if known is None or at < known:
            self.schedule(timer, at)

    def cancel_step(self, group: str, task: str) -> None:
        """Cancel each timer of a step that has ended."""
        for kind in STEP_TIMERS:
            self.cancel(Timer(kind, group, task))

    @property
    def has_work(self) -> bool:
        """True if a timer is scheduled besides the one for the run's deadline."""
        return len(self._entries) > (OVERDUE in self._entries)


def in_request_order(run: Run, timers: Sequence[Timer]) -> list[Timer]:
    """Timers that are due together, in the order in which the request declares their groups and tasks. Each owner
    fires them in the same order whenever it scheduled them: under a limit on members of the group, the first task
    takes the free slots."""
    # Nearly always: numbering all groups and tasks of the run would cost more than the timer.
    if len(timers) < 2:
        return list(timers)
    groups = {name: number for number, name in enumerate(run.groups, 1)}
    due_in = {timer.group for timer in timers if timer.task}
    tasks = {(name, task): number for name in due_in for number, task in enumerate(run.groups[name].tasks, 1)}
    return sorted(
        timers,
        key=lambda timer: (groups.get(timer.group, 0), tasks.get((timer.group, timer.task), 0), timer.kind),
    )
