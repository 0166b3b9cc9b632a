"""The kind of step that repeats the tasks of its body, one iteration at a time. Pure.

Each iteration has tasks of its own (`loop_bodies`), and a scope for their keys. What is decided between two
iterations is decided in the turn in which the last task of the first one ended: whether it failed, `until`, then
whether there is another one: its item, `while`, the limits. The next one starts in the same turn, unless it is
delayed, or the run is paused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from anabranch.core.names import Names
from anabranch.core.request.flow import Loop
from anabranch.core.wire.messages import LoopItems, LoopTaken
from anabranch.runtime.ownership.effects import Effect
from anabranch_taskgroup.session.budgets import EXCEEDED
from anabranch_taskgroup.session.conditions import Judgement
from anabranch_taskgroup.session.early_decisions import broken_tasks, shortfall_of
from anabranch_taskgroup.session.loop_endings import conclude, exhaust, fail_loop, fail_with_body
from anabranch_taskgroup.session.loop_items import is_awaited, next_item, take_items
from anabranch_taskgroup.session.loop_iterations import (
    begin_iteration,
    close_iteration,
    commit_iteration,
    judge_loop,
)
from anabranch_taskgroup.session.loop_states import InvalidState, first_state
from anabranch_taskgroup.session.loop_waits import loop_waits
from anabranch_taskgroup.session.retry_loops import import_loop
from anabranch_taskgroup.session.states import TaskEvent, TaskState, next_state
from anabranch_taskgroup.session.steps.kind import Activity, Signal, Step, StepKind, Wait
from anabranch_taskgroup.session.task_state import LoopPhase, LoopState, Task
from anabranch_taskgroup.session.timers import Timer, TimerKind
from anabranch_taskgroup.session.turn import ReadItems, Turn

MAX_STARTS = 50
"""Iterations that start in one turn. Those of a body without members end at once: the next ones follow in a turn
of their own, so that other runs have theirs."""


class LoopKind(StepKind):
    """Repeats the tasks of its body."""

    name: ClassVar[str] = "loop"

    def begin(self, turn: Turn, step: Step) -> None:
        _, group, task = step
        task.state, task.began_at = next_state(task.state, TaskEvent.DEPENDENCIES_MET), turn.at
        if group.is_known:  # else a part of its body has not been read
            _begin(turn, step)

    def resume(self, turn: Turn, step: Step) -> None:
        if step.task.loop is None:
            if step.task.state is TaskState.READY and step.group.is_known:
                _begin(turn, step)
        elif step.task.loop.phase is LoopPhase.RESTING:
            _start_if_due(turn, step)

    def body_ended(self, turn: Turn, step: Step) -> None:
        run, group, task = step
        loop = task.loop
        if loop is None or loop.phase is not LoopPhase.RUNNING or loop.open:
            return
        spec = _spec(task)
        if loop.ended_by == "duration":
            exhaust(turn, step, "duration")
            return
        broken, short = broken_tasks(group, task), None
        if group.need is not None and loop.decided is None:
            short = shortfall_of(group, task)
        has_failed = bool(broken) or short is not None
        close_iteration(turn, step, failed=has_failed)
        if short is not None and spec.on_failure == "fail":
            fail_loop(turn, step, short.error_type, f"iteration {loop.number} failed: {short.message}")
        elif broken and (spec.on_failure == "fail" or any(map(_is_out_of_budget, broken))):
            fail_with_body(turn, step, broken[0])
        elif has_failed or spec.until is None:
            _consider_next(turn, step)
        elif (found := judge_loop(turn, run, task, "until")) is not None:
            _after_until(turn, step, found)

    def on_judgement(self, turn: Turn, step: Step, purpose: str, found: Judgement) -> None:
        if purpose.startswith("until"):
            _after_until(turn, step, found)
        else:
            _after_while(turn, step, found)

    def on_signal(self, turn: Turn, step: Step, signal: Signal, segments: tuple[bytes, ...]) -> None:
        if isinstance(signal, LoopTaken):
            if step.run.importing_from is not None:
                import_loop(turn, step.run, step.task, signal, segments)
        elif not isinstance(signal, LoopItems):
            super().on_signal(turn, step, signal, segments)
        elif signal.error is not None and is_awaited(step.task, signal):
            fail_loop(turn, step, "ExpansionError", signal.error)
        elif take_items(turn, step.task, signal):
            _check(turn, step)

    def due(self, turn: Turn, step: Step, timer: TimerKind, now: float) -> None:
        loop = step.task.loop
        if loop is None:
            return
        if timer is TimerKind.ITERATION:
            _start_if_due(turn, step, now)
        elif timer is TimerKind.LOOP_LIMIT and loop.ended_by is None:
            loop.ended_by = "duration"
            if loop.phase is LoopPhase.RUNNING:
                turn.stopping.append(step)
            else:
                exhaust(turn, step, "duration")

    def pending(self, step: Step, names: Names) -> Iterator[Wait]:
        return loop_waits(step.run, step.task)

    def derive(self, step: Step) -> Iterator[Effect]:
        loop = step.task.loop
        if loop is not None and loop.phase is LoopPhase.READING:
            yield ReadItems(step.run.run_id, step.group.name, step.task.name)

    def activity(self, task: Task) -> Activity:
        loop = task.loop
        if loop is None or loop.phase is LoopPhase.RUNNING:
            return Activity.WAITING
        return Activity.RESTING if loop.phase is LoopPhase.RESTING else Activity.WORKING


def _is_out_of_budget(task: Task) -> bool:
    """True if a budget let members of a task not start: those of a further iteration would not start either."""
    return -1 in task.failed and task.failed[-1].error_type == EXCEEDED


def _spec(task: Task) -> Loop:
    spec = task.order.loop
    assert spec is not None
    return spec


def _begin(turn: Turn, step: Step) -> None:
    run, _, task = step
    spec = _spec(task)
    taken = task.imported_loop
    if taken is not None and taken.resumed is not None:
        loop = taken
    else:
        try:
            loop = LoopState(state=first_state(run, task))
        except InvalidState as error:
            task.loop = LoopState(began_at=turn.at)
            fail_loop(turn, step, "InvalidState", str(error))
            return
    loop.began_at = loop.due = turn.at
    task.loop, task.imported_loop = loop, None
    if loop.ended_by is not None:
        conclude(turn, step, loop.ended_by)
        return
    if spec.max_duration is not None:
        run.timers.schedule(Timer(TimerKind.LOOP_LIMIT, task.group, task.name), turn.at + spec.max_duration)
    _check(turn, step)


def _after_until(turn: Turn, step: Step, found: Judgement) -> None:
    if found.error is not None:
        fail_loop(turn, step, "ConditionError", f"`until` after iteration {_loop(step).number}: {found.error}")
    elif found.case == 0:
        commit_iteration(turn, step)
        conclude(turn, step, "condition")
    else:
        _consider_next(turn, step)


def _consider_next(turn: Turn, step: Step) -> None:
    """The last iteration did not end the loop: decide whether there is another one."""
    commit_iteration(turn, step)
    _check(turn, step)


def _check(turn: Turn, step: Step) -> None:
    """Decide whether the next iteration exists: by its item, by `while`, then by the limit."""
    run, _, task = step
    spec, loop = _spec(task), _loop(step)
    loop.phase = LoopPhase.CHECKING
    if spec.each is not None:
        found = next_item(turn, run, task)
        if found.error is not None:
            fail_loop(turn, step, "ExpansionError", found.error)
            return
        if not found.is_known:
            loop.phase = LoopPhase.READING
            turn.effects.append(ReadItems(run.run_id, task.group, task.name))
            return
        if found.item is None:
            conclude(turn, step, "items")
            return
        loop.item = found.item
    if spec.while_ is None:
        _rest(turn, step)
    elif (judged := judge_loop(turn, run, task, "while")) is not None:
        _after_while(turn, step, judged)


def _after_while(turn: Turn, step: Step, found: Judgement) -> None:
    if found.error is not None:
        fail_loop(turn, step, "ConditionError", f"`while` before iteration {_loop(step).number}: {found.error}")
    elif found.case < 0:
        conclude(turn, step, "condition")
    else:
        _rest(turn, step)


def _rest(turn: Turn, step: Step) -> None:
    """There is another iteration, if the limit allows it: start it, now or after the delay."""
    spec, loop = _spec(step.task), _loop(step)
    if loop.number >= spec.limit:
        exhaust(turn, step, "limit")
        return
    loop.phase = LoopPhase.RESTING
    loop.due = turn.at + (spec.delay if loop.number else 0.0)
    _start_if_due(turn, step)


def _start_if_due(turn: Turn, step: Step, now: float | None = None) -> None:
    """Start the next iteration, unless its delay is not over, the run is paused, or this turn has started
    enough."""
    run, _, task = step
    loop = _loop(step)
    if loop.phase is not LoopPhase.RESTING or run.paused or run.stopped:
        return
    if (turn.at if now is None else now) < loop.due or turn.iterations >= MAX_STARTS:
        run.timers.schedule(Timer(TimerKind.ITERATION, task.group, task.name), max(loop.due, turn.at))
        return
    turn.iterations += 1
    begin_iteration(turn, step)


def _loop(step: Step) -> LoopState:
    assert step.task.loop is not None
    return step.task.loop
