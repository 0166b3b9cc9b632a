"""Tells that a task waits for an agent that no worker has. Pure.

A worker without the agent gives a chunk back, and it is parked before another worker is asked. An offer that is
out may lie before a worker that has the agent and is busy, so the event is told only while all chunks are parked.
"""

from __future__ import annotations

from anabranch.core.waiting import NOTICE_SECONDS
from anabranch_taskgroup.session.state import Run, Task
from anabranch_taskgroup.session.turn import Turn


def note_lack(turn: Turn, run: Run, task: Task) -> None:
    """A chunk came back for lack of the agent."""
    if task.lacking_since is None:
        task.lacking_since, task.lack_due = turn.at, turn.at + NOTICE_SECONDS
    elif task.lack_due is None:
        _tell(turn, run, task)


def look_at_lack(turn: Turn, run: Run, task: Task, until: float) -> None:
    """Its timer is due: tell of the lack, or leave that to the next chunk that comes back."""
    if task.lack_due is not None and task.lack_due <= until:
        task.lack_due = None
        _tell(turn, run, task)


def note_found(task: Task) -> None:
    """A member has started: there is a worker with the agent."""
    task.lacking_since, task.lack_due, task.lack_told = None, None, False


def _tell(turn: Turn, run: Run, task: Task) -> None:
    if task.lack_told or run.paused or task.is_over or task.chunks or not task.parked:
        return
    task.lack_told = True
    turn.event(run, "task.waiting", task=task, reason="no_agent", agent=task.order.agent)
