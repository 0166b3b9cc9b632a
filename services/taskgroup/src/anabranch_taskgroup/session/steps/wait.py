"""The kind of step that waits for a time, a condition, an event, a signal or a decision. Pure.

It holds no slot of a worker. Each member has one ending: the first record on the partition that satisfies it, is
past its time, or stops it. Its value is the payload; null for times and conditions. A pause does not stop a wait:
signals are accepted and time goes on, but nothing that depends on it starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import orjson

from anabranch.core.names import Names
from anabranch.core.ranges import Spans
from anabranch.core.reasons import Fact, Missing
from anabranch.core.waits.rendering import RenderedWait, kind_of_wait
from anabranch.core.wire.messages import ArrayCounted, MembersTaken, Message, TakenPage, WaitsRendered
from anabranch.runtime.ownership.effects import Effect
from anabranch_taskgroup.session.conditions import Judgement
from anabranch_taskgroup.session.endings import fail
from anabranch_taskgroup.session.retry_import import import_members, import_page
from anabranch_taskgroup.session.states import TaskEvent, TaskState, may_happen, next_state
from anabranch_taskgroup.session.steps import wait_opening
from anabranch_taskgroup.session.steps.expansion import has_large_array
from anabranch_taskgroup.session.steps.joins import report_partial
from anabranch_taskgroup.session.steps.kind import Activity, Signal, Step, StepKind, Wait
from anabranch_taskgroup.session.steps.wait_conditions import take_outcome
from anabranch_taskgroup.session.steps.wait_endings import close, waits_of
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.timers import TimerKind
from anabranch_taskgroup.session.turn import CountArrays, RegisterWaits, RenderWaits, Turn

SIGNALS: tuple[type[Message], ...] = (WaitsRendered,)
"""The messages that are addressed to one step, besides those that the kind `task` has."""
MAX_PENDING = 100
"""Names of signals of one step that `why` lists."""


class WaitKind(StepKind):
    """Waits, once or in each member of an expansion."""

    name: ClassVar[str] = "wait"

    def begin(self, turn: Turn, step: Step) -> None:
        run, _, task = step
        task.state, task.began_at = next_state(task.state, TaskEvent.DEPENDENCIES_MET), turn.at
        wait_opening.begin(turn, run, task)

    def on_signal(self, turn: Turn, step: Step, signal: Signal, segments: tuple[bytes, ...]) -> None:
        if isinstance(signal, WaitsRendered):
            _rendered(turn, step, signal, segments)
        elif isinstance(signal, ArrayCounted):
            _counted(turn, step, signal)
        elif isinstance(signal, MembersTaken) and step.run.importing_from is not None:
            import_members(turn, step.run, step.task, signal, segments)
        elif isinstance(signal, TakenPage):
            import_page(turn, step.run, step.task, signal, segments[0])
        else:
            turn.partition.drop("signal that this kind of step does not know")

    def on_judgement(self, turn: Turn, step: Step, purpose: str, found: Judgement) -> None:
        take_outcome(turn, step.run, step.task, purpose, found)

    def due(self, turn: Turn, step: Step, timer: TimerKind, now: float) -> None:
        run, _, task = step
        if task.waits is not None:
            wait_opening.end_due(turn, run, task, now)
            close(turn, run, task)

    def cancel(self, turn: Turn, step: Step) -> None:
        if step.task.state is TaskState.RUNNING:
            report_partial(turn, step.run, step.task)

    def pending(self, step: Step, names: Names) -> Iterator[Wait]:
        return map(Wait, _missing(step.task))

    def derive(self, step: Step) -> Iterator[Effect]:
        # What the shell has read may have been published and not read yet. It is published again, and dropped.
        run, _, task = step
        if _is_opening(task):
            alike = task.order.expansion is not None and not wait_opening.has_own_waits(task)
            effect = CountArrays if alike and has_large_array(run, task) else RenderWaits
            yield effect(run.run_id, task.group, task.name)
        if task.waits is not None and task.waits.keys:
            yield RegisterWaits(run.run_id, task.group, task.name, 0, task.waits.opened)

    def activity(self, task: Task) -> Activity:
        return Activity.WORKING if _is_opening(task) else Activity.RESTING


def _is_opening(task: Task) -> bool:
    """True if the shell has to read something before all members wait."""
    return task.state is TaskState.READY or (
        task.state is TaskState.RUNNING and waits_of(task).opened < task.total
    )


def _rendered(turn: Turn, step: Step, message: WaitsRendered, segments: tuple[bytes, ...]) -> None:
    run, _, task = step
    expected = 0 if task.waits is None else task.waits.opened
    if not _is_opening(task) or message.first != expected or message.iteration != task.iteration:
        turn.partition.drop("waits rendered before")
    elif message.error is not None and may_happen(task.state, TaskEvent.EXPANSION_REFUSED):
        fail(turn, run, task, TaskEvent.EXPANSION_REFUSED, "InvalidWait", message.error)
    else:
        rendered = [RenderedWait.of_document(each) for each in orjson.loads(segments[0])] if segments else []
        wait_opening.begin_page(turn, run, task, message.first, message.total, rendered)


def _counted(turn: Turn, step: Step, message: ArrayCounted) -> None:
    run, _, task = step
    if task.state is not TaskState.READY or message.iteration != task.iteration:
        turn.partition.drop("array counted before")
    elif message.error is not None:
        fail(turn, run, task, TaskEvent.EXPANSION_REFUSED, "ExpansionError", message.error)
    else:
        wait_opening.begin_alike(turn, run, task, message.count)


# --- what it waits for -----------------------------------------------------------------------------

_FACTS = {
    "time": Fact.WAITS_FOR_TIME,
    "condition": Fact.WAITS_FOR_CONDITION,
    "event": Fact.WAITS_FOR_EVENT,
    "signal": Fact.WAITS_FOR_SIGNAL,
    "approval": Fact.WAITS_FOR_DECISION,
}


def _missing(task: Task) -> Iterator[Missing]:
    wait = task.order.wait
    assert wait is not None
    kind = kind_of_wait(wait)
    base = Missing(_FACTS[kind], task.group, task.name, since=task.began_at)
    if _is_opening(task):
        yield replace(base, fact=Fact.NEVER_PRODUCED, detail="the values in its wait have not been read")
    if task.waits is None:
        return
    until = task.waits.dues[0][0] if task.waits.dues else None
    base = replace(base, until=until)
    expanded = task.order.expansion is not None
    if wait.event is not None:
        yield from _of_events(task, wait.event.name, base)
        return
    if kind != "signal":
        spans = task.waits.open_in(0, task.waits.opened)
        yield replace(base, members=spans if expanded else None)
        return
    for name, parts in list(task.waits.names.items())[:MAX_PENDING]:
        spans = tuple(span for start, stop in sorted(parts) for span in task.waits.open_in(start, stop))
        if spans:
            yield replace(base, key=name, members=_if(expanded, spans))


def _of_events(task: Task, name: str, base: Missing) -> Iterator[Missing]:
    assert task.waits is not None
    base, expanded = replace(base, name=name), task.order.expansion is not None
    for key, parts in list(task.waits.keys.items())[:MAX_PENDING]:
        spans = tuple(span for start, stop in parts for span in task.waits.open_in(start, stop))
        if spans:
            yield replace(base, key=key, members=_if(expanded, spans))


def _if(expanded: bool, spans: Spans) -> Spans | None:
    return spans if expanded else None
