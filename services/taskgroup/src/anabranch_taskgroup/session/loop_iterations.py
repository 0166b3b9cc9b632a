"""Begins and closes the iterations of a loop, and evaluates its conditions. Pure."""

from __future__ import annotations

from anabranch.runtime.ownership.effects import Expire
from anabranch_taskgroup.session.conditions import Judgement, judge
from anabranch_taskgroup.session.expiry import MORE_WORK_SECONDS, WORK_SECONDS, value_keys_of, work_keys_of
from anabranch_taskgroup.session.loop_bodies import body_of, counts_of, produced_by, renew_body
from anabranch_taskgroup.session.loop_collecting import collect
from anabranch_taskgroup.session.loop_values import present_states, values_in
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskEvent, TaskState, next_state
from anabranch_taskgroup.session.steps.kind import Step
from anabranch_taskgroup.session.store_keys import key_of_reference
from anabranch_taskgroup.session.task_state import LoopPhase, LoopState, Task
from anabranch_taskgroup.session.turn import Turn


def begin_iteration(turn: Turn, step: Step) -> None:
    """Start the next iteration of a loop. `lifecycle.settle` admits its tasks."""
    run, group, task = step
    loop = _loop(task)
    if task.state is TaskState.READY:
        task.state = next_state(task.state, TaskEvent.LOOP_BEGUN)
    loop.phase, loop.started_at, loop.decided = LoopPhase.RUNNING, turn.at, None
    iteration = (*task.iteration, loop.number)
    body = renew_body(run, group, task, iteration)
    loop.alternatives, loop.open = produced_by(body), len(body)
    # Counted before the first one is admitted, which may end at once.
    group.unfinished += len(body)
    turn.event(run, "iteration.started", task=task, iteration=iteration)
    turn.admitting += [(run, each) for each in body]
    if not body:
        turn.iterated.append(step)


def close_iteration(turn: Turn, step: Step, *, failed: bool) -> None:
    """All tasks of an iteration have ended."""
    loop = _loop(step.task)
    loop.phase = LoopPhase.ENDING
    kind = "iteration.failed" if failed else "iteration.completed"
    iteration = (*step.task.iteration, loop.number)
    turn.event(step.run, kind, task=step.task, iteration=iteration, started_at=loop.started_at)


def commit_iteration(turn: Turn, step: Step) -> None:
    """Take over what an iteration has left: its states, its values, its members. Its scope is dropped, and what
    the store has of earlier ones expires, unless a state or a collected list refers to it.

    A retry runs an iteration again that was not committed."""
    run, group, task = step
    loop, spec = _loop(task), task.order.loop
    assert spec is not None
    body = body_of(group, task)
    loop.state = present_states(loop)
    loop.counts += counts_of(group, task.name)
    _note_stored(turn, run, loop, body)
    if spec.collect == "append":
        collect(turn, run, task)
    loop.last = values_in(loop.values)
    loop.values, loop.waiters, loop.alternatives = {}, {}, {}
    loop.number += 1
    loop.phase = LoopPhase.CHECKING
    # A switch, a wait or a loop has none.
    worked = [each for each in body if each.chunk_count > each.first_chunk]
    if work := work_keys_of(turn.config.names, run, worked):
        turn.effects.append(Expire(tuple(work), MORE_WORK_SECONDS))
    if loop.stored:
        _expire_unreachable(turn, run, loop)


def judge_loop(turn: Turn, run: Run, task: Task, name: str) -> Judgement | None:
    """Evaluate a condition of a loop; None if the shell has to read values first, whose outcome is a message."""
    return judge(turn, run, task, f"{name} {_loop(task).number}")


def _note_stored(turn: Turn, run: Run, loop: LoopState, body: list[Task]) -> None:
    for task in body:
        for key, names in value_keys_of(turn.config.names, run, task).items():
            loop.stored[key] = names
        if task.loop is not None:
            loop.stored |= task.loop.stored


def _expire_unreachable(turn: Turn, run: Run, loop: LoopState) -> None:
    values = (*loop.state.values(), *loop.last.values())
    reachable = {key_of_reference(value.data) for value in values if value.is_reference}
    gone = [key for key in loop.stored if key not in reachable]
    names = tuple(name for key in gone for name in loop.stored.pop(key))
    if names:
        turn.effects.append(Expire(names, WORK_SECONDS))


def _loop(task: Task) -> LoopState:
    assert task.loop is not None
    return task.loop
