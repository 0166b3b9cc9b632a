"""Emits an event while a task waits for an agent that no worker has. Pure.

A worker without the agent returns a chunk, which is parked before it is offered to another one. A chunk that is
offered may be in the queue of a busy worker that has the agent, so the event is emitted while all chunks are
parked, or once the shell has found in the list of workers that no live one has the agent.
"""

from __future__ import annotations

from anabranch.core.waiting import NOTICE_SECONDS
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.timers import Timer, TimerKind
from anabranch_taskgroup.session.turn import Turn


def note_missing_agent(turn: Turn, run: Run, task: Task) -> None:
    """A worker returned a chunk because it lacks the agent."""
    timer = _timer(task)
    if task.agent_missing_since is None:
        task.agent_missing_since = turn.at
        run.timers.schedule(timer, turn.at + NOTICE_SECONDS)
    # The notice period is over. The event is due now if this was the last chunk that was offered.
    elif timer not in run.timers:
        report_missing_agent(turn, run, task)


def note_agent_found(run: Run, task: Task) -> None:
    """A member has started: there is a worker with the agent."""
    task.agent_missing_since, task.missing_agent_reported = None, False
    task.room_missing_since = task.room_lack = None
    run.timers.cancel(_timer(task))


def note_missing_room(turn: Turn, task: Task) -> None:
    """A worker returned a chunk because it offers less than the task requires."""
    if task.room_missing_since is None:
        task.room_missing_since = turn.at


def note_unserved(turn: Turn, run: Run, task: Task, lacks: str) -> bool:
    """No live worker can take the chunks of the task, which wait: for lack of the agent, or of what `lacks` says.
    Returns False if that is no longer so, or known."""
    is_running = len(task.waiting) < len(task.chunks)
    if run.paused or task.is_over or is_running or not (task.chunks or task.parked):
        return False
    if lacks:
        return _report_room(turn, run, task, lacks)
    if task.missing_agent_reported:
        return False
    # Set, so that the next start of a member ends the wait.
    if task.agent_missing_since is None:
        task.agent_missing_since = turn.at
    _report(turn, run, task)
    return True


def _timer(task: Task) -> Timer:
    return Timer(TimerKind.AGENT_MISSING, task.group, task.name)


def report_missing_agent(turn: Turn, run: Run, task: Task) -> None:
    """Emit the event, once until a member starts. Does nothing while an offer is out: the next chunk that is
    returned calls this again."""
    if task.missing_agent_reported or run.paused or task.is_over or task.chunks or not task.parked:
        return
    _report(turn, run, task)


def _report_room(turn: Turn, run: Run, task: Task, lacks: str) -> bool:
    if task.room_lack is not None or task.order.requires is None:
        return False
    note_missing_room(turn, task)
    task.room_lack = lacks
    requires = task.order.requires.to_document()
    turn.event(run, "task.waiting", task=task, reason="no_room", requires=requires, lacks=lacks)
    return True


def _report(turn: Turn, run: Run, task: Task) -> None:
    task.missing_agent_reported = True
    turn.event(run, "task.waiting", task=task, reason="no_agent", agent=task.order.agent)
