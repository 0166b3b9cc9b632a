"""Carries out commands on held members: they run again, or count as failed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anabranch.core.wire.messages import ReleaseHeld
from anabranch_taskgroup.session.chunks import single_member_chunk
from anabranch_taskgroup.session.dead_letters import count_failed, emit_failure, release_traceback
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.steps.joins import advance
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn


def release(turn: Turn, run: Run, message: ReleaseHeld) -> None:
    """Redrive or dismiss held members, once for each command id."""
    # A repeated command must not redrive members that failed again in between.
    if message.command_id in run.commands:
        turn.partition.drop("command known before")
        return
    run.commands.add(message.command_id)
    found = [(group, task, indexes) for group, task in _named(run, message) if (indexes := _chosen(task, message))]
    if not found:
        turn.partition.drop("no such member is held")
    said: dict[str, Any] = {
        name: value for name, value in (("by", message.by), ("reason", message.reason)) if value
    }
    for group, task, indexes in found:
        for index in indexes:
            if message.action == "redrive":
                _redrive(turn, run, task, index, said)
            else:
                _dismiss(turn, run, task, index, said)
        advance(turn, run, group, task)


def _named(run: Run, message: ReleaseHeld) -> Iterator[tuple[Group, Task]]:
    for group in list(run.groups.values()):
        if message.group in (None, group.name):
            for task in list(group.tasks.values()):
                if task.held and message.task in (None, task.name) and message.iteration in (None, task.iteration):
                    yield group, task


def _chosen(task: Task, message: ReleaseHeld) -> list[int]:
    """The held members that a command names. The one member of an ordinary task has index 0 here, and none
    outside."""
    if message.indexes is None:
        return sorted(task.held)
    return sorted(task.held.keys() & set(message.indexes))


def _redrive(turn: Turn, run: Run, task: Task, index: int, said: Mapping[str, Any]) -> None:
    """Offer a member again, with new counts of attempts and deliveries. A member that killed workers still runs
    alone."""
    held = task.held.pop(index)
    release_traceback(run, task, held.failure.traceback)
    task.redrives[index] = task.redrives.get(index, 0) + 1
    if held.deliveries:
        task.deaths[index] = 0
    # Without its earlier attempts: a redriven member has all attempts of its retry policy again.
    task.requeued.append(single_member_chunk(task, index, task.mode_of(index), {}))
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
        **said,
    )


def _dismiss(turn: Turn, run: Run, task: Task, index: int, said: Mapping[str, Any]) -> None:
    held = task.held.pop(index)
    count_failed(task, index, held.failure)
    emit_failure(turn, run, task, index, held.failure, dismissed=True, **said)
