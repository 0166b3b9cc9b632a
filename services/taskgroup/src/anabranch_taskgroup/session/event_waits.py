"""What the owner of a session tells the owners of events about the members that wait for one. Pure.

A wait is registered under the address of its events, by each new owner of the session again, and closed when it
ends by something else than an event.
"""

from __future__ import annotations

from collections.abc import Iterator

from anabranch.core.event_addresses import event_address
from anabranch.core.ranges import Spans
from anabranch.core.wire.messages import CloseEventWait, EventWaiter, OpenEventWait
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn

GRACE_SECONDS = 86_400.0
"""Seconds from the deadline of a run after which the owner of an event forgets a wait that nothing has closed."""


def registrations(run: Run, task: Task, start: int, stop: int) -> Iterator[OpenEventWait]:
    """The registrations of the members from `start` to `stop` that still wait."""
    if task.waits is None or task.order.wait is None or task.order.wait.event is None:
        return
    event, waiter = task.order.wait.event, waiter_of(run, task)
    for key, spans in task.waits.keys.items():
        if waiting := _open_spans(task, spans, start, stop):
            yield OpenEventWait(
                run_id=event_address(run.project, event.name, key),
                waiter=waiter,
                spans=waiting,
                when=event.when,
                deliver=event.deliver,
                collect=task.order.wait.collect,
                until=run.deadline + GRACE_SECONDS,
            )


def stop_waiting(turn: Turn, run: Run, task: Task, start: int, stop: int) -> None:
    """The members from `start` to `stop` that still wait are about to end without an event."""
    assert task.waits is not None
    assert task.order.wait is not None
    event = task.order.wait.event
    if event is None:
        return
    waiter = waiter_of(run, task)
    for key, spans in task.waits.keys.items():
        if waiting := _open_spans(task, spans, start, stop):
            address = event_address(run.project, event.name, key)
            message = CloseEventWait(run_id=address, waiter=waiter, spans=waiting)
            turn.publish(turn.config.names.runs, address, message)


def waiter_of(run: Run, task: Task) -> EventWaiter:
    return EventWaiter(
        run_id=run.run_id,
        session_id=run.session_id,
        group=task.group,
        task=task.name,
        iteration=task.iteration,
        admission=run.admission,
    )


def _open_spans(task: Task, spans: list[tuple[int, int]], start: int, stop: int) -> Spans:
    assert task.waits is not None
    return tuple(
        found
        for low, high in spans
        if low < stop and high > start
        for found in task.waits.open_in(max(low, start), min(high, stop))
    )
