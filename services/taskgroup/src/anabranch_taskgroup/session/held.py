"""What becomes of held members: they run again, or count as failed, as somebody decided. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from anabranch.core.wire.messages import ReleaseHeld
from anabranch_taskgroup.session.chunks import single
from anabranch_taskgroup.session.dead_letters import count_failed, forget_traceback, tell_failure
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.steps.joins import advance
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn


def release(turn: Turn, run: Run, message: ReleaseHeld) -> None:
    """Do with held members as a command says, once for each command id."""
    if message.command_id in run.commands:
        turn.partition.drop("command known before")
        return
    run.commands.add(message.command_id)
    found = [(group, task, indexes) for group, task in _named(run, message) if (indexes := _chosen(task, message))]
    if not found:
        turn.partition.drop("nothing of it is held")
    for group, task, indexes in found:
        for index in indexes:
            if message.action == "redrive":
                _redrive(turn, run, task, index)
            else:
                _dismiss(turn, run, task, index)
        advance(turn, run, group, task)


def _named(run: Run, message: ReleaseHeld) -> Iterator[tuple[Group, Task]]:
    for group in list(run.groups.values()):
        if message.group in (None, group.name):
            for task in list(group.tasks.values()):
                if task.held and message.task in (None, task.name):
                    yield group, task


def _chosen(task: Task, message: ReleaseHeld) -> list[int]:
    """Of an ordinary task the one member has no index on the outside, and index 0 here."""
    if message.indexes is None:
        return sorted(task.held)
    return sorted(task.held.keys() & set(message.indexes))


def _redrive(turn: Turn, run: Run, task: Task, index: int) -> None:
    """Attempts and deliveries are counted anew. Who was seen to kill workers begins alone all the same."""
    held = task.held.pop(index)
    forget_traceback(run, task, held.failure.traceback)
    task.redrives[index] = task.redrives.get(index, 0) + 1
    if held.deliveries:
        task.deaths[index] = 0
    task.requeued.append(single(task, index, task.mode_of(index), {}))
    turn.event(
        run,
        "task.retrying",
        task=task,
        spans=((index, index + 1),),
        attempt=held.failure.attempts,
        error_type=held.failure.error_type,
        message=held.failure.message,
        delay=0.0,
        redriven=True,
    )


def _dismiss(turn: Turn, run: Run, task: Task, index: int) -> None:
    held = task.held.pop(index)
    count_failed(task, index, held.failure)
    tell_failure(turn, run, task, index, held.failure, dismissed=True)
