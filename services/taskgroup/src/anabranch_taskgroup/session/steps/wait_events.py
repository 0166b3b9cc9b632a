"""Gives published events to the members that wait for them, and answers to the owner of the event. Pure.

The owner of the event has chosen the member. Whether the member still waits is decided here, where its time and
the stop of its run are decided too: whichever record is first on the partition of the session ends it. An event
that comes too late is given back, for the next wait.
"""

from __future__ import annotations

from typing import Any

from anabranch.core.wire.messages import AnswerEvent, DeliverEvent, EventWaiter
from anabranch_taskgroup.session.known_runs import open_run
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.steps.wait_endings import close, collect, satisfy, waits_of
from anabranch_taskgroup.session.steps.wait_signals import payload_problem
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn


def receive_event(turn: Turn, message: DeliverEvent, segments: tuple[bytes, ...]) -> None:
    """Apply the delivery of an event. It is answered, however often it is repeated."""
    run = open_run(turn, message)
    task = run.task(message.group, message.task) if run is not None else None
    if run is None or task is None or not _is_open(task, message):
        turn.partition.drop("event for a wait that is not open")
        _answer(turn, message, taken=False, is_open=False)
    elif message.number in waits_of(task).taken.get(message.index, ()):
        turn.partition.drop("event taken before")
        _answer(turn, message, taken=True, is_open=True)
    else:
        _take(turn, run, task, message, segments[0] if segments else b"null")


def _is_open(task: Task, message: DeliverEvent) -> bool:
    waits = task.waits
    return (
        waits is not None
        and task.state is TaskState.RUNNING
        and task.iteration == message.iteration
        and message.index < waits.opened
        and message.index not in waits.ended
    )


def _take(turn: Turn, run: Run, task: Task, message: DeliverEvent, data: bytes) -> None:
    wait, waits, index = task.order.wait, waits_of(task), message.index
    assert wait is not None
    assert wait.event is not None
    spans = ((index, index + 1),)
    about: dict[str, Any] = {"name": wait.event.name, "event_id": message.event_id}
    if wait.payload_schema is not None and (problem := payload_problem(wait.payload_schema, data)):
        turn.event(run, "event.refused", task=task, spans=spans, **about, message=problem)
        _answer(turn, message, taken=False, is_open=True)
        return
    turn.event(run, "event.received", task=task, spans=spans, **about)
    if wait.collect > 1:
        waits.taken.setdefault(index, []).append(message.number)
        all_of_them = collect(turn, run, task, index, wait.collect, data)
        if all_of_them is None:
            _answer(turn, message, taken=True, is_open=index not in waits.ended)
            close(turn, run, task)
            return
        data = all_of_them
        del waits.taken[index]
    _answer(turn, message, taken=True, is_open=False)
    satisfy(turn, run, task, spans, data, "event", event_id=message.event_id)
    close(turn, run, task)


def _answer(turn: Turn, message: DeliverEvent, *, taken: bool, is_open: bool) -> None:
    waiter = EventWaiter(
        run_id=message.run_id,
        session_id=message.session_id,
        group=message.group,
        task=message.task,
        iteration=message.iteration,
        admission=message.admission or 0,
    )
    answer = AnswerEvent(
        run_id=message.address,
        waiter=waiter,
        index=message.index,
        number=message.number,
        taken=taken,
        is_open=is_open,
        deliver=message.deliver,
    )
    turn.publish(turn.config.names.runs, message.address, answer)
